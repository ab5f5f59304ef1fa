//! What carries publications to the server, and the answers back in the order of the publications.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;

use tidings_client::api::{Api, IdempotencyKeys, PendingPublication};
use tidings_client::{ConnectOptions, Connection, Encoding, Error, Message, Server, ServerError, resp};
use tidings_wire::client::Data;
use tidings_wire::client::request::{Publish, Request};
use tidings_wire::resp::Value;
use tokio::time::Instant;

use crate::target::ServerArgs;

/// The most publications that go into one call of the API.
const BATCH: usize = 256;
/// The most bytes of bodies that go into one call of the API, if more than one body does.
const BATCH_BYTES: usize = 256 << 10;

/// A way to the server.
pub(super) enum Publisher {
    /// RESP on the line port.
    Resp(resp::Connection),
    /// The client protocol over a WebSocket.
    Protocol(Box<Connection>),
    /// The server API.
    Api(Box<Calls>),
}

impl Publisher {
    /// The way that the server's address names.
    ///
    /// # Errors
    /// [`Error`]: no server at the address, or a server that refuses.
    pub(super) async fn open(args: &ServerArgs) -> Result<Self, Error> {
        match &args.server {
            Server::Web(web) if web.websocket => {
                let hello = ConnectOptions { token: args.token.clone(), ..ConnectOptions::default() };
                // In Protobuf, bodies are the bytes they are.
                let (connection, _) = Connection::open(&args.server, Encoding::Protobuf, &hello).await?;
                Ok(Self::Protocol(Box::new(connection)))
            }
            Server::Web(web) => Ok(Self::Api(Box::new(Calls::new(Api::new(web.clone(), args.key.clone()))))),
            server => Ok(Self::Resp(resp::Connection::open(server, args.secret()).await?)),
        }
    }

    /// Whether publications without a response can be sent again without being published twice.
    pub(super) fn may_repeat(&self) -> bool {
        matches!(self, Self::Api(_))
    }

    /// Adds one publication. The caller bounds how many wait.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection cannot send.
    pub(super) fn queue(&mut self, channel: &str, body: Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Resp(connection) => connection.queue(&[b"PUBLISH", channel.as_bytes(), &body]),
            Self::Protocol(connection) => {
                let publish = Publish { channel: channel.into(), data: Some(Data::from(body)) };
                connection.send(Request::Publish(publish))?;
            }
            Self::Api(calls) => {
                let outgoing = calls.names.prepare(channel, body);
                calls.queue(outgoing);
            }
        }
        Ok(())
    }

    /// Bytes that the kernel has not taken yet.
    pub(super) fn unsent(&self) -> usize {
        match self {
            Self::Resp(connection) => connection.unsent(),
            Self::Protocol(connection) => connection.unsent(),
            Self::Api(calls) => calls.waiting_bytes,
        }
    }

    /// When the server last said anything.
    pub(super) fn last_received(&self) -> Instant {
        match self {
            Self::Resp(connection) => connection.last_received(),
            Self::Protocol(connection) => connection.last_received(),
            Self::Api(calls) => calls.heard,
        }
    }

    /// The answer to the oldest publication that has none, without waiting; an error in the server's words.
    ///
    /// # Errors
    /// The connection ended, or does not speak its protocol.
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
            // The server answers publications of one connection in their order.
            Self::Protocol(connection) => loop {
                match connection.take()? {
                    None => return Ok(None),
                    Some(Message::Reply(_, answer)) => {
                        return Ok(Some(answer.map(|_| ()).map_err(|refusal| refusal.to_string())));
                    }
                    Some(_) => {}
                }
            },
            Self::Api(calls) => {
                Ok(calls.answers.pop_front().map(|answer| answer.map_err(|refusal| refusal.to_string())))
            }
        }
    }

    /// Waits until something has been sent or has come. May be dropped half-way and called again.
    ///
    /// # Errors
    /// The connection ended.
    pub(super) async fn exchange(&mut self) -> Result<(), Error> {
        match self {
            Self::Resp(connection) => connection.exchange().await,
            Self::Protocol(connection) => connection.exchange().await,
            Self::Api(calls) => calls.exchange().await,
        }
    }

    /// Leaves in good order.
    pub(super) async fn close(self) {
        if let Self::Protocol(connection) = self {
            connection.close().await;
        }
    }
}

/// Calls of the API, one at a time, with as many publications in each as wait.
pub(super) struct Calls {
    /// IdempotencyKeys publications, so that they can be sent again.
    names: IdempotencyKeys,
    /// `None` while a call is under way.
    api: Option<Api>,
    waiting: VecDeque<PendingPublication>,
    waiting_bytes: usize,
    under_way: Option<Pin<Box<dyn Future<Output = Done>>>>,
    answers: VecDeque<Result<(), ServerError>>,
    heard: Instant,
}

/// The results of a call: the API, its publications, and the server's response.
type Done = (Api, Vec<PendingPublication>, Result<Vec<Result<(), ServerError>>, Error>);

impl Calls {
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

    /// What the next call takes along: at least one publication, if one waits.
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
                // The next call sends them again; the server skips those that it has.
                self.waiting_bytes += batch.iter().map(PendingPublication::len).sum::<usize>();
                batch.into_iter().rev().for_each(|one| self.waiting.push_front(one));
                Err(error)
            }
        }
    }
}
