//! Carries publications to the server, and returns the responses in order.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;

use tidings_client::api::{Api, IdempotencyKeys, PendingPublication};
use tidings_client::mqtt::MqttEvent;
use tidings_client::{
    ConnectOptions, Connection, Encoding, Error, Message, MqttConnection, Server, ServerError, resp,
};
use tidings_wire::client::Data;
use tidings_wire::client::request::{Publish, Request};
use tidings_wire::resp::Value;
use tokio::time::Instant;

use crate::target::ServerArgs;

/// The most publications in one API call.
const BATCH: usize = 256;
/// The most bytes of bodies in one API call, except that one body may be larger.
const BATCH_BYTES: usize = 256 << 10;

/// A connection for publishing.
pub(super) enum Publisher {
    /// RESP on the line port.
    Resp(resp::RespConnection),
    /// The client protocol over a WebSocket.
    Protocol(Box<Connection>),
    /// MQTT.
    Mqtt(Box<MqttConnection>),
    /// The server API.
    Api(Box<ApiCalls>),
}

impl Publisher {
    /// Connects with the protocol of the server's address.
    ///
    /// # Errors
    /// [`Error`]: no server at the address, or a server that rejects the client.
    pub(super) async fn open(args: &ServerArgs) -> Result<Self, Error> {
        match &args.server {
            Server::Web(web) if web.websocket => {
                let hello = ConnectOptions { token: args.token.clone(), ..ConnectOptions::default() };
                // Protobuf preserves the bytes of bodies.
                let (connection, _) = Connection::open(&args.server, Encoding::Protobuf, &hello).await?;
                Ok(Self::Protocol(Box::new(connection)))
            }
            Server::Web(web) => {
                Ok(Self::Api(Box::new(ApiCalls::new(Api::new(web.clone(), args.key.clone())))))
            }
            server @ Server::Mqtt { .. } => {
                Ok(Self::Mqtt(Box::new(MqttConnection::open(server, args.secret()).await?)))
            }
            server => Ok(Self::Resp(resp::RespConnection::open(server, args.secret()).await?)),
        }
    }

    /// Whether publications without a response can be sent again without a duplicate.
    pub(super) fn may_repeat(&self) -> bool {
        matches!(self, Self::Api(_))
    }

    /// Whether the server accepts a further publication before it has answered another.
    pub(super) fn has_room(&self) -> bool {
        if let Self::Mqtt(connection) = self { connection.has_room() } else { true }
    }

    /// Queues one publication. The caller bounds the number.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection cannot send.
    pub(super) fn queue(&mut self, channel: &str, body: Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Resp(connection) => connection.queue(&[b"PUBLISH", channel.as_bytes(), &body]),
            Self::Protocol(connection) => {
                let publish =
                    Publish { channel: channel.into(), data: Some(Data::from(body)), ..Publish::default() };
                connection.send(Request::Publish(publish))?;
            }
            Self::Mqtt(connection) => connection.publish(channel, &body)?,
            Self::Api(calls) => {
                let outgoing = calls.names.prepare(channel, body);
                calls.queue(outgoing);
            }
        }
        Ok(())
    }

    /// Bytes that the kernel has not accepted yet.
    pub(super) fn unsent(&self) -> usize {
        match self {
            Self::Resp(connection) => connection.unsent(),
            Self::Protocol(connection) => connection.unsent(),
            Self::Mqtt(connection) => connection.unsent(),
            Self::Api(calls) => calls.waiting_bytes,
        }
    }

    /// The time of the last input.
    pub(super) fn last_received(&self) -> Instant {
        match self {
            Self::Resp(connection) => connection.last_received(),
            Self::Protocol(connection) => connection.last_received(),
            Self::Mqtt(connection) => connection.last_received(),
            Self::Api(calls) => calls.heard,
        }
    }

    /// The response to the oldest publication without one; does not wait. An error has the server's text.
    ///
    /// # Errors
    /// The connection ended, or the peer uses another protocol.
    pub(super) fn take(&mut self) -> Result<Option<Result<(), String>>, Error> {
        match self {
            Self::Resp(connection) => loop {
                match connection.take()? {
                    None => return Ok(None),
                    Some(Value::Push(_)) => {}
                    Some(Value::Error(words)) => return Ok(Some(Err(words))),
                    Some(_) => return Ok(Some(Ok(()))),
                }
            },
            // The server responds to publications of one connection in order.
            Self::Protocol(connection) => loop {
                match connection.take()? {
                    None => return Ok(None),
                    Some(Message::Reply(_, answer)) => {
                        return Ok(Some(answer.map(|_| ()).map_err(|refusal| refusal.to_string())));
                    }
                    Some(_) => {}
                }
            },
            Self::Mqtt(connection) => loop {
                match connection.take()? {
                    None => return Ok(None),
                    Some(MqttEvent::Published(answer)) => return Ok(Some(answer)),
                    Some(_) => {}
                }
            },
            Self::Api(calls) => {
                Ok(calls.answers.pop_front().map(|answer| answer.map_err(|refusal| refusal.to_string())))
            }
        }
    }

    /// Waits until output has been written or input has arrived. Cancel safe.
    ///
    /// # Errors
    /// The connection ended.
    pub(super) async fn exchange(&mut self) -> Result<(), Error> {
        match self {
            Self::Resp(connection) => connection.exchange().await,
            Self::Protocol(connection) => connection.exchange().await,
            Self::Mqtt(connection) => connection.exchange().await,
            Self::Api(calls) => calls.exchange().await,
        }
    }

    /// Closes the connection cleanly.
    pub(super) async fn close(self) {
        match self {
            Self::Protocol(connection) => connection.close().await,
            Self::Mqtt(connection) => connection.close().await,
            Self::Resp(_) | Self::Api(_) => {}
        }
    }
}

/// API calls, one at a time, each with all queued publications.
pub(super) struct ApiCalls {
    /// Assigns idempotency keys, so that publications can be sent again.
    names: IdempotencyKeys,
    /// `None` during a call.
    api: Option<Api>,
    waiting: VecDeque<PendingPublication>,
    waiting_bytes: usize,
    under_way: Option<Pin<Box<dyn Future<Output = CallResult>>>>,
    answers: VecDeque<Result<(), ServerError>>,
    heard: Instant,
}

/// The result of a call: the API, its publications, and the server's response.
type CallResult = (Api, Vec<PendingPublication>, Result<Vec<Result<(), ServerError>>, Error>);

impl ApiCalls {
    fn new(api: Api) -> Self {
        Self {
            names: IdempotencyKeys::default(),
            api: Some(api),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: None,
            answers: VecDeque::new(),
            heard: Instant::now(),
        }
    }

    fn queue(&mut self, outgoing: PendingPublication) {
        self.waiting_bytes += outgoing.len();
        self.waiting.push_back(outgoing);
    }

    /// The publications of the next call: at least one if any is queued.
    fn batch(&mut self) -> Vec<PendingPublication> {
        let mut bytes = 0;
        let fits = self.waiting.iter().take(BATCH).take_while(|one| {
            bytes += one.len();
            bytes <= BATCH_BYTES
        });
        let count = fits.count().max(1).min(self.waiting.len());
        let batch: Vec<PendingPublication> = self.waiting.drain(..count).collect();
        self.waiting_bytes -= batch.iter().map(PendingPublication::len).sum::<usize>();
        batch
    }

    async fn exchange(&mut self) -> Result<(), Error> {
        if !self.waiting.is_empty()
            && let Some(mut api) = self.api.take()
        {
            let batch = self.batch();
            self.under_way = Some(Box::pin(async move {
                let answers = api.publish(&batch).await;
                (api, batch, answers)
            }));
        }
        let Some(under_way) = &mut self.under_way else { return pending().await };
        let (api, batch, answers) = under_way.as_mut().await;
        self.under_way = None;
        self.api = Some(api);
        match answers {
            Ok(answers) => {
                self.heard = Instant::now();
                self.answers.extend(answers);
                Ok(())
            }
            Err(error) => {
                // The next call sends them again; the server skips those that it has already published.
                self.waiting_bytes += batch.iter().map(PendingPublication::len).sum::<usize>();
                batch.into_iter().rev().for_each(|one| self.waiting.push_front(one));
                Err(error)
            }
        }
    }
}
