//! Shared tables: sending a file over `/tables/ws`, and appending lines to a table that one owns.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tidings_wire::ws::Kind;

use crate::http::{HttpClient, HttpRequest, HttpResponse};
use crate::{Error, Web, WebSocket};

/// The largest piece of a file in one message, in bytes.
pub const MAX_CHUNK: usize = 1 << 20;

/// What the server says while a file is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum UploadEvent {
    /// The secret of the table's owner.
    Owner(String),
    /// The current view of the table.
    View(View),
    /// How much of the file has come: bytes, and rows found in them.
    Progress {
        /// Bytes that the server has taken.
        received: u64,
        /// Rows found in them.
        rows: u64,
    },
    /// Something was refused: a number and words.
    Refused(u64, String),
    /// What concerns viewers alone.
    Other,
}

/// What a view says of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its name in addresses.
    pub uuid: String,
    /// Bytes of its file.
    pub size: u64,
    /// Rows that the view pages through.
    pub rows: u64,
    /// Columns of its widest row on this page, or of its header.
    pub columns: usize,
    /// Whether rows are still coming in.
    pub loading: bool,
    /// The names of the columns, where the file has them.
    pub header: Option<Vec<String>>,
    /// How the server reads the file, once it has begun to.
    pub dialect: Option<Dialect>,
}

/// How the server reads a file. Without a quote or an escape these are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// What stands between cells.
    pub delimiter: String,
    /// What stands around cells.
    pub quote: String,
    /// What takes the meaning from a delimiter or a quote behind it.
    pub escape: String,
    /// Whether spaces before a cell are no part of it.
    pub skip_initial_space: bool,
    /// The encoding, as browsers name it.
    pub encoding: String,
}

/// What is appended to a table.
#[derive(Clone, Debug)]
pub enum Content {
    /// Whole lines of UTF-8, in the table's dialect.
    Lines(Bytes),
    /// Rows of cells: a JSON array of arrays.
    Cells(Bytes),
}

impl Content {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        let (Self::Lines(bytes) | Self::Cells(bytes)) = self;
        bytes.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendResult {
    /// So many rows.
    pub rows: u64,
    /// Bytes of the table's file with them; `None` from a server that does not say.
    pub size: Option<u64>,
}

/// Who makes a table, where that takes a right.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The server's API key.
    pub key: Option<String>,
    /// A connection token.
    pub token: Option<String>,
}

/// A connection on which a table is made.
pub struct Upload {
    socket: WebSocket,
}

impl Upload {
    /// Connects, and announces a file of `size` bytes, where that is known.
    ///
    /// # Errors
    /// [`Error`]: no server at the address, or a server without tables.
    pub async fn begin(
        web: &Web,
        credentials: &Credentials,
        name: &str,
        size: Option<u64>,
    ) -> Result<Self, Error> {
        let bearer = credentials.token.as_ref().map(|token| format!("Bearer {token}"));
        // A token identifies a user; a key, which may be set for other commands, is used only without a token.
        let header = match (&bearer, &credentials.key) {
            (Some(bearer), _) => Some(("Authorization", &**bearer)),
            (None, Some(key)) => Some(("X-API-Key", &**key)),
            (None, None) => None,
        };
        let socket = WebSocket::open(web, "/tables/ws", &[], header.as_slice()).await;
        let mut upload = Self { socket: socket.map_err(|denied| denied.into_error(web))? };
        let announced = match size {
            Some(size) => json!({"upload": {"name": name, "size": size}}),
            None => json!({"upload": {"name": name}}),
        };
        upload.say(&announced)?;
        Ok(upload)
    }

    fn say(&mut self, message: &Value) -> Result<(), Error> {
        self.socket.queue(Kind::Text, message.to_string().as_bytes())
    }

    /// Adds a piece of at most [`MAX_CHUNK`] bytes to what [`Self::exchange`] writes. The caller bounds how much
    /// waits ([`Self::unsent`]).
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection cannot send.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), Error> {
        bytes.chunks(MAX_CHUNK).try_for_each(|piece| self.socket.queue(Kind::Binary, piece))
    }

    /// Says that the file has ended.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub fn end(&mut self) -> Result<(), Error> {
        self.say(&json!({"upload_end": {}}))
    }

    /// Says that the file will not come.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub fn abort(&mut self) -> Result<(), Error> {
        self.say(&json!({"upload_abort": {}}))
    }

    /// Bytes that the kernel has not taken yet.
    pub fn unsent(&self) -> usize {
        self.socket.unsent()
    }

    /// What has come, without waiting.
    ///
    /// # Errors
    /// As [`WebSocket::take`].
    pub fn take(&mut self) -> Result<Option<UploadEvent>, Error> {
        let Some((_, message)) = self.socket.take()? else { return Ok(None) };
        let message: Value = serde_json::from_slice(&message)
            .map_err(|e| Error::Protocol { what: "the tables' protocol", why: e.to_string() })?;
        Ok(Some(told(&message)))
    }

    /// Waits until something has been sent or has come. May be dropped half-way and called again.
    ///
    /// # Errors
    /// As [`WebSocket::exchange`].
    pub async fn exchange(&mut self) -> Result<(), Error> {
        self.socket.exchange().await
    }

    /// Leaves in good order.
    pub async fn close(self) {
        self.socket.close().await;
    }
}

fn told(message: &Value) -> UploadEvent {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    // Both become part of addresses, and are shown to people.
    let is_name = |text: &&str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    if let Some(secret) = message["owner"].as_str().filter(is_name) {
        return UploadEvent::Owner(secret.to_owned());
    }
    if let Some(uuid) = message["uuid"].as_str().filter(is_name) {
        let width = |row: &Value| row.as_array().map_or(0, Vec::len);
        let rows = message["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        return UploadEvent::View(View {
            uuid: uuid.to_owned(),
            size: number(&message["size"]),
            rows: number(&message["total_number"]),
            columns: rows.iter().map(width).max().unwrap_or(0).max(width(&message["header"])),
            loading: message["loading"].as_bool().unwrap_or(false),
            header: message["header"].as_array().map(|cells| cells.iter().map(text).collect()),
            dialect: message["dialect"].is_object().then(|| dialect(&message["dialect"])),
        });
    }
    let (progress, error) = (&message["progress"], &message["error"]);
    if progress["received"].is_u64() {
        return UploadEvent::Progress {
            received: number(&progress["received"]),
            rows: number(&progress["rows"]),
        };
    }
    if error.is_object() {
        return UploadEvent::Refused(
            number(&error["code"]),
            error["message"].as_str().unwrap_or_default().to_owned(),
        );
    }
    UploadEvent::Other
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn dialect(value: &Value) -> Dialect {
    Dialect {
        delimiter: text(&value["delimiter"]),
        quote: text(&value["quote"]),
        escape: text(&value["escape"]),
        skip_initial_space: value["skip_initial_space"].as_bool().unwrap_or(false),
        encoding: text(&value["encoding"]),
    }
}

/// A table that one owns.
pub struct OwnedTable {
    http: HttpClient,
    uuid: String,
    bearer: String,
}

impl OwnedTable {
    /// The table `uuid` at `web`, with its owner's secret.
    pub fn new(web: Web, uuid: &str, secret: &str) -> Self {
        Self { http: HttpClient::new(web), uuid: uuid.to_owned(), bearer: format!("Bearer {secret}") }
    }

    /// Appends rows.
    ///
    /// # Errors
    /// As [`HttpClient::call`]; [`Error::Refused`] in the server's words, [`Error::Unfit`] where it is about these rows.
    pub async fn append(&mut self, content: Content) -> Result<AppendResult, Error> {
        let path = format!("/tables/{}/rows", self.uuid);
        let (kind, body) = match content {
            Content::Lines(lines) => ("text/plain; charset=utf-8", lines),
            Content::Cells(cells) => ("application/json", cells),
        };
        let headers = [("Authorization", &*self.bearer), ("Content-Type", kind)];
        let call = HttpRequest { method: Method::POST, path: &path, headers: &headers, body };
        let reply = self.http.call(call).await?;
        let answer = answer(&reply, "to append rows")?;
        Ok(AppendResult { rows: answer["appended"].as_u64().unwrap_or(0), size: answer["size"].as_u64() })
    }

    /// Bytes of the table's file: shows whether an append without a response was carried out.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn size(&mut self) -> Result<u64, Error> {
        let path = format!("/tables/{}.json?page_size=1", self.uuid);
        let reply = self.http.call(HttpRequest::get(&path)).await?;
        Ok(answer(&reply, "to show the table")?["size"].as_u64().unwrap_or(0))
    }
}

fn answer(reply: &HttpResponse, what: &str) -> Result<Value, Error> {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if reply.status == 200 {
        return Ok(body);
    }
    let words = body["error"]["message"].as_str().map_or_else(|| reply.words(), ToOwned::to_owned);
    let (what, words) = (what.to_owned(), format!("{words} ({})", reply.status));
    if reply.status == 400 {
        return Err(Error::Unfit { what, words });
    }
    let temporary = matches!(reply.status, 408 | 429 | 502..=504);
    Err(Error::Refused { what, words, temporary })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_told_apart() {
        let of = |text: &str| told(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"owner":"s"}"#), UploadEvent::Owner("s".to_owned()));
        assert_eq!(
            of(r#"{"progress":{"received":10,"size":20,"rows":3}}"#),
            UploadEvent::Progress { received: 10, rows: 3 }
        );
        assert_eq!(of(r#"{"progress":{"view":0.5}}"#), UploadEvent::Other);
        assert_eq!(of(r#"{"uuid":"\u001b[2J"}"#), UploadEvent::Other);
        assert_eq!(
            of(r#"{"error":{"code":413,"message":"no"}}"#),
            UploadEvent::Refused(413, "no".to_owned())
        );
        let dialect = Dialect { delimiter: ";".into(), encoding: "UTF-8".into(), ..Dialect::default() };
        let (header, dialect) = (Some(vec!["n".to_owned()]), Some(dialect));
        let view =
            View { uuid: "u".to_owned(), size: 70, rows: 9, columns: 3, loading: true, header, dialect };
        let text = r#"{"uuid":"u","total_number":9,"size":70,"loading":true,"header":["n"],"data":[["a"],["a","b","c"]],
            "dialect":{"delimiter":";","quote":"","encoding":"UTF-8","line_end":"\n"}}"#;
        assert_eq!(of(text), UploadEvent::View(view));
    }
}
