//! Commands of the client protocol as methods: thin layers over [`Client::call`], with the same errors.

use tidings_wire::client::Data;
use tidings_wire::client::request::{self, Request};

use crate::message::{ClientInfo, Position, Publication, Reply};
use crate::{Body, Client, Error};

impl Client {
    /// Publishes. On return, the server has accepted the publication.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn publish(&mut self, channel: &str, body: &[u8]) -> Result<(), Error> {
        let publish = request::Publish {
            channel: channel.into(),
            data: Some(Data::from(body)),
            ..request::Publish::default()
        };
        self.call(Request::Publish(publish)).await.map(|_| ())
    }

    /// The subscribers of a channel, by the public id of their connections.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn presence(&mut self, channel: &str) -> Result<Vec<(String, ClientInfo)>, Error> {
        match self.call(Request::Presence(request::Presence { channel: channel.into() })).await? {
            Reply::Presence(clients) => Ok(clients),
            _ => Err(unexpected_reply()),
        }
    }

    /// The number of connections that are subscribed to a channel, and the number of different users.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn presence_stats(&mut self, channel: &str) -> Result<(u32, u32), Error> {
        let stats = request::PresenceStats { channel: channel.into() };
        match self.call(Request::PresenceStats(stats)).await? {
            Reply::PresenceStats { clients, users } => Ok((clients, users)),
            _ => Err(unexpected_reply()),
        }
    }

    /// The history of a channel: at most `limit` publications (0: none; negative: all), after `since` if it is given,
    /// newest first with `reverse`; and the channel's newest position.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn history(
        &mut self,
        channel: &str,
        limit: i32,
        since: Option<&Position>,
        reverse: bool,
    ) -> Result<(Vec<Publication>, Position), Error> {
        let since =
            since.map(|at| request::StreamPosition { offset: at.offset, epoch: at.epoch.as_str().into() });
        let history = request::History { channel: channel.into(), limit, since, reverse };
        match self.call(Request::History(history)).await? {
            Reply::History { publications, position } => Ok((publications, position)),
            _ => Err(unexpected_reply()),
        }
    }

    /// Sends an RPC to the backend. On a JSON connection, `data` is JSON.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn rpc(&mut self, method: &str, data: &[u8]) -> Result<Option<Body>, Error> {
        let rpc = request::Rpc { data: Some(Data::from(data)), method: method.into() };
        match self.call(Request::Rpc(rpc)).await? {
            Reply::Rpc(body) => Ok(body),
            _ => Err(unexpected_reply()),
        }
    }

    /// Renews the connection's token, also for later connections. Returns the remaining seconds of its validity, if
    /// they are limited.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn refresh(&mut self, token: &str) -> Result<Option<u32>, Error> {
        self.set_token(token);
        match self.call(Request::Refresh(request::Refresh { token: token.into() })).await? {
            Reply::Refreshed(ttl) => Ok(ttl),
            _ => Err(unexpected_reply()),
        }
    }
}

fn unexpected_reply() -> Error {
    Error::Protocol { what: "the client protocol", why: "the reply belongs to another command".to_owned() }
}
