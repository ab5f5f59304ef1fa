//! One worker's place in the consumer group of a stream: reading, claiming and acknowledging entries.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, Value};
use thiserror::Error;
use tidings_redis_dial::addr::Addr;
use tidings_redis_dial::dial::Dialer;

use super::entry::{Entry, EntryId, text};

/// Longest time for one command, besides the time that it blocks.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for which a read waits for new entries. A worker that is stopped ends after it.
const BLOCK: Duration = Duration::from_secs(1);
/// Idle time after which a member of the group without pending entries is removed: it has ended.
const MEMBER_IDLE: Duration = Duration::from_secs(3600);
/// The id before the first entry of a stream, and the cursor after the last one.
pub(super) const FIRST_ID: &str = "0-0";
/// Beginning of the names of members that the server has created.
const MEMBER_PREFIX: &str = "tidings-";

/// Removes members that have ended, in one step with the check that they have no pending entries, which are lost otherwise.
const REMOVE_MEMBERS: &str = "
local removed = 0
for _, member in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local fields = {}
    for at = 1, #member, 2 do fields[member[at]] = member[at + 1] end
    local is_ours = string.sub(fields['name'], 1, #ARGV[2]) == ARGV[2]
    local is_idle = fields['idle'] >= tonumber(ARGV[3]) or fields['name'] == ARGV[4]
    if is_ours and is_idle and fields['pending'] == 0 then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fields['name'])
        removed = removed + 1
    end
end
return removed";

/// Why a connection cannot be used any more.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Redis has refused a command or the connection, or the connection has broken.
    #[error("{0}")]
    Redis(String),
    /// The stream is on this node of the cluster.
    #[error("the stream is on another node")]
    Moved(Option<Addr>),
    /// Redis did not respond in time.
    #[error("no response within {} s", COMMAND_TIMEOUT.as_secs())]
    Timeout,
    /// A reply has another form than that of the command.
    #[error("an unexpected reply to {0}")]
    Reply(&'static str),
}

/// A worker in the group of a stream, with its connection.
pub(crate) struct Member<'a> {
    pub(crate) stream: &'a str,
    pub(crate) group: &'a str,
    /// The name of the worker, which no other one has.
    pub(crate) name: &'a str,
    pub(crate) connection: MultiplexedConnection,
    pub(crate) dialer: &'a Dialer,
}

impl Member<'_> {
    /// A name for a new member.
    pub(crate) fn new_name() -> String {
        format!("{MEMBER_PREFIX}{:016x}", fastrand::u64(..))
    }

    /// Creates the stream and its group, unless they exist. A group that was deleted continues after the entry `done`, the last one
    /// that this process has run; a new one, and that of a stream that was deleted too, begins with the first entry. Checks
    /// that entries can be acknowledged, so that no command runs whose entry cannot.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn create_group(&mut self, done: Option<EntryId>) -> Result<(), Failure> {
        // The stream was deleted too if it has no entry as late as the last one.
        let continues = done.is_some() && self.last_id().await? >= done;
        let start = done.filter(|_| continues).map_or_else(|| FIRST_ID.to_owned(), |done| done.to_string());
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(self.stream).arg(self.group).arg(start).arg("MKSTREAM");
        match self.send(&create, COMMAND_TIMEOUT).await? {
            Err(error) if error.code() != Some("BUSYGROUP") => return Err(self.failure(&error)),
            _ => {}
        }
        self.acknowledge(&mut vec![FIRST_ID.to_owned()]).await
    }

    /// The id of the last entry of the stream, also of a deleted one; `None` without a stream.
    async fn last_id(&mut self) -> Result<Option<EntryId>, Failure> {
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(self.stream);
        match self.send(&info, COMMAND_TIMEOUT).await? {
            Ok(reply) => {
                let last = fields(reply)
                    .and_then(|all| all.into_iter().find(|(name, _)| name == "last-generated-id"));
                last.and_then(|(_, id)| EntryId::parse(&text(id)?)).map(Some).ok_or(Failure::Reply("XINFO"))
            }
            Err(error) if error.detail() == Some("no such key") => Ok(None),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Reads at most `count` new entries, and waits for the first one for a second.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn read(&mut self, count: usize) -> Result<Vec<Entry>, Failure> {
        let block = u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX);
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(self.group).arg(self.name).arg("COUNT").arg(count).arg("BLOCK").arg(block);
        read.arg("STREAMS").arg(self.stream).arg(">");
        let entries = match self.call(&read, COMMAND_TIMEOUT + BLOCK).await? {
            Value::Nil => return Ok(Vec::new()),
            // RESP2: a list of streams, each with its entries. RESP3: a map.
            Value::Array(mut streams) if streams.len() == 1 => match streams.pop() {
                Some(Value::Array(mut stream)) => stream.pop(),
                _ => None,
            },
            Value::Map(mut streams) if streams.len() == 1 => streams.pop().map(|(_, entries)| entries),
            _ => None,
        };
        entries.and_then(list).ok_or(Failure::Reply("XREADGROUP"))
    }

    /// Takes over at most `count` entries that their members have not acknowledged for the time `idle`, from the id `cursor`
    /// on. Returns the entries, and the id to continue from: `0-0` after the last one.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn claim(
        &mut self,
        idle: Duration,
        count: usize,
        cursor: &str,
    ) -> Result<(Vec<Entry>, String), Failure> {
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(self.stream).arg(self.group).arg(self.name).arg(millis(idle)).arg(cursor);
        claim.arg("COUNT").arg(count);
        let Value::Array(parts) = self.call(&claim, COMMAND_TIMEOUT).await? else {
            return Err(Failure::Reply("XAUTOCLAIM"));
        };
        let mut parts = parts.into_iter();
        let cursor = parts.next().and_then(text);
        cursor
            .zip(parts.next().and_then(list))
            .map(|(cursor, entries)| (entries, cursor))
            .ok_or(Failure::Reply("XAUTOCLAIM"))
    }

    /// Renews the claims of this member to entries, so that no other one takes them over for another visibility timeout. Without
    /// the group there are no claims: the entries are not read again, and this member runs them to their end.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn renew_claims(&mut self, ids: impl Iterator<Item = &str>) -> Result<(), Failure> {
        let mut claim = redis::cmd("XCLAIM");
        claim.arg(self.stream).arg(self.group).arg(self.name).arg(0);
        ids.for_each(|id| {
            claim.arg(id);
        });
        claim.arg("JUSTID");
        match self.send(&claim, COMMAND_TIMEOUT).await? {
            Err(error) if error.code() != Some("NOGROUP") => Err(self.failure(&error)),
            _ => Ok(()),
        }
    }

    /// Acknowledges entries, and clears the list.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn acknowledge(&mut self, ids: &mut Vec<String>) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut acknowledge = redis::cmd("XACK");
        acknowledge.arg(self.stream).arg(self.group).arg(&*ids);
        self.call(&acknowledge, COMMAND_TIMEOUT).await?;
        ids.clear();
        Ok(())
    }

    /// The number of entries that are not acknowledged, with those that are not read yet; `None` if Redis does not know it: before
    /// version 7, or after entries were deleted that were not read.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn backlog(&mut self) -> Result<Option<u64>, Failure> {
        let mut info = redis::cmd("XINFO");
        info.arg("GROUPS").arg(self.stream);
        let Value::Array(groups) = self.call(&info, COMMAND_TIMEOUT).await? else {
            return Err(Failure::Reply("XINFO"));
        };
        let mut groups = groups.into_iter().filter_map(fields);
        let find = |group: &[(String, Value)], name: &str| match group.iter().find(|(field, _)| field == name)
        {
            Some((_, Value::Int(number))) => u64::try_from(*number).ok(),
            _ => None,
        };
        let is_this = |group: &Vec<(String, Value)>| {
            let name = group.iter().find(|(field, _)| field == "name");
            name.is_some_and(
                |(_, value)| matches!(value, Value::BulkString(name) if name == self.group.as_bytes()),
            )
        };
        let group = groups.find(is_this).unwrap_or_default();
        Ok(find(&group, "lag").zip(find(&group, "pending")).map(|(lag, pending)| lag + pending))
    }

    /// Removes members of the group that have ended, this one too if it ends. Only members without pending entries are removed.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn remove_members(&mut self, ends: bool) -> Result<(), Failure> {
        let mut remove = redis::cmd("EVAL");
        remove.arg(REMOVE_MEMBERS).arg(1).arg(self.stream).arg(self.group).arg(MEMBER_PREFIX);
        remove.arg(millis(MEMBER_IDLE)).arg(if ends { self.name } else { "" });
        self.call(&remove, COMMAND_TIMEOUT).await.map(|_| ())
    }

    async fn call(&mut self, command: &Cmd, limit: Duration) -> Result<Value, Failure> {
        self.send(command, limit).await?.map_err(|error| self.failure(&error))
    }

    async fn send(&mut self, command: &Cmd, limit: Duration) -> Result<Result<Value, RedisError>, Failure> {
        let reply = command.query_async(&mut self.connection);
        tokio::time::timeout(limit, reply).await.map_err(|_| Failure::Timeout)
    }

    fn failure(&self, error: &RedisError) -> Failure {
        if error.kind() == ErrorKind::Server(redis::ServerErrorKind::Moved) {
            let addr = error.redirect_node().and_then(|(addr, _)| Addr::read(addr, ""));
            return Failure::Moved(addr.filter(|addr| !addr.host.is_empty()));
        }
        Failure::Redis(self.dialer.describe(error))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The entries of a list; `None` for another form.
fn list(value: Value) -> Option<Vec<Entry>> {
    let Value::Array(entries) = value else { return None };
    // Before version 7 an entry that was deleted is nothing.
    entries.into_iter().filter(|entry| !matches!(entry, Value::Nil)).map(Entry::parse).collect()
}

/// The fields of a description, which are a map or a list of names and values in turn.
fn fields(value: Value) -> Option<Vec<(String, Value)>> {
    match value {
        Value::Map(pairs) => {
            Some(pairs.into_iter().filter_map(|(name, value)| Some((text(name)?, value))).collect())
        }
        Value::Array(values) => {
            let mut values = values.into_iter();
            Some(std::iter::from_fn(|| Some((text(values.next()?)?, values.next()?))).collect())
        }
        _ => None,
    }
}
