//! Shared tables: uploads over `/tables/ws`, and appends to a table with its owner's secret.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tidings_wire::ws::Kind;

use crate::http::{HttpClient, HttpRequest, HttpResponse};
use crate::{Error, Web, WebSocket};

/// The largest chunk of a file in one message, in bytes.
pub const MAX_CHUNK: usize = 1 << 20;

/// A message of the server during an upload.
#[derive(Clone, Debug, PartialEq)]
pub enum UploadEvent {
    /// The secret of the table's owner.
    Owner(String),
    /// The current view of the table.
    View(View),
    /// The progress of the upload.
    Progress {
        /// Bytes that the server has received.
        received: u64,
        /// Rows in these bytes.
        rows: u64,
    },
    /// An error: a code and its text.
    Refused(u64, String),
    /// A message that only concerns viewers.
    Other,
}

/// The fields of a view that describe its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The table's id.
    pub uuid: String,
    /// The size of the file in bytes.
    pub size: u64,
    /// The rows of the view, on all pages.
    pub rows: u64,
    /// The columns of the widest row on this page, or of the header.
    pub columns: usize,
    /// Whether the upload continues.
    pub loading: bool,
    /// The names of the columns, if the file has a header.
    pub header: Option<Vec<String>>,
    /// The dialect, once it is detected.
    pub dialect: Option<Dialect>,
}

/// The dialect of a file. Quote and escape are empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// The separator of cells.
    pub delimiter: String,
    /// The character around quoted cells.
    pub quote: String,
    /// The character that escapes a delimiter or a quote.
    pub escape: String,
    /// Whether spaces before a cell are skipped.
    pub skip_initial_space: bool,
    /// The encoding, by its name in browsers.
    pub encoding: String,
    /// The format of the file: `text`, or a format that was converted to such text, such as `json`.
    pub format: String,
}

/// Rows to append.
#[derive(Clone, Debug)]
pub enum Content {
    /// Whole lines of UTF-8, in the table's dialect.
    Lines(Bytes),
    /// Rows of cells: a JSON array of arrays.
    Cells(Bytes),
}

impl Content {
    /// The length in bytes.
    pub fn len(&self) -> usize {
        let (Self::Lines(bytes) | Self::Cells(bytes)) = self;
        bytes.len()
    }

    /// Whether the content is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The result of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendResult {
    /// The number of appended rows.
    pub rows: u64,
    /// The new size of the file in bytes; `None` from a server that does not report it.
    pub size: Option<u64>,
}

/// Credentials for creating a table, where the server requires them.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The server's API key.
    pub key: Option<String>,
    /// A connection token.
    pub token: Option<String>,
}

/// A connection for one upload.
pub struct Upload {
    socket: WebSocket,
}

impl Upload {
    /// Connects and announces a file of `size` bytes, if the size is available. `key`: the names of the columns that are
    /// the key of its rows.
    ///
    /// # Errors
    /// [`Error`]: no server at the address, or a server without tables.
    pub async fn begin(
        web: &Web,
        credentials: &Credentials,
        name: &str,
        size: Option<u64>,
        key: &[String],
    ) -> Result<Self, Error> {
        let bearer = credentials.token.as_ref().map(|token| format!("Bearer {token}"));
        // A token identifies a user. The key, which may be configured for other commands, is used only without a token.
        let header = match (&bearer, &credentials.key) {
            (Some(bearer), _) => Some(("Authorization", &**bearer)),
            (None, Some(key)) => Some(("X-API-Key", &**key)),
            (None, None) => None,
        };
        let socket = WebSocket::open(web, "/tables/ws?client=cli", &[], header.as_slice()).await;
        let mut upload = Self { socket: socket.map_err(|denied| denied.into_error(web))? };
        let mut announced = json!({"name": name});
        if let Some(size) = size {
            announced["size"] = size.into();
        }
        if !key.is_empty() {
            announced["key"] = key.into();
        }
        upload.say(&json!({"upload": announced}))?;
        Ok(upload)
    }

    fn say(&mut self, message: &Value) -> Result<(), Error> {
        self.socket.queue(Kind::Text, message.to_string().as_bytes())
    }

    /// Appends a chunk of at most [`MAX_CHUNK`] bytes to the output buffer. The caller bounds the size of the buffer
    /// ([`Self::unsent`]).
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection cannot send.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), Error> {
        bytes.chunks(MAX_CHUNK).try_for_each(|piece| self.socket.queue(Kind::Binary, piece))
    }

    /// Sends the end of the file.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub fn end(&mut self) -> Result<(), Error> {
        self.say(&json!({"upload_end": {}}))
    }

    /// Aborts the upload.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub fn abort(&mut self) -> Result<(), Error> {
        self.say(&json!({"upload_abort": {}}))
    }

    /// Bytes that the kernel has not accepted yet.
    pub fn unsent(&self) -> usize {
        self.socket.unsent()
    }

    /// The next message in the input buffer; does not wait.
    ///
    /// # Errors
    /// As [`WebSocket::take`].
    pub fn take(&mut self) -> Result<Option<UploadEvent>, Error> {
        let Some((_, message)) = self.socket.take()? else { return Ok(None) };
        let message: Value = serde_json::from_slice(&message)
            .map_err(|e| Error::Protocol { what: "the tables' protocol", why: e.to_string() })?;
        Ok(Some(upload_event(&message)))
    }

    /// Waits until output has been written or input has arrived. Cancel safe.
    ///
    /// # Errors
    /// As [`WebSocket::exchange`].
    pub async fn exchange(&mut self) -> Result<(), Error> {
        self.socket.exchange().await
    }

    /// Closes the connection and waits until the close frame is written.
    pub async fn close(self) {
        self.socket.close().await;
    }
}

fn upload_event(message: &Value) -> UploadEvent {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    // Both become part of URLs and are printed.
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
            columns: match message["columns_total"].as_u64() {
                Some(total) => usize::try_from(total).unwrap_or(usize::MAX),
                None => rows.iter().map(width).max().unwrap_or(0).max(width(&message["header"])),
            },
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
        format: text(&value["format"]),
    }
}

/// A table and its owner's secret.
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
    /// As [`HttpClient::call`]; [`Error::Refused`] with the server's text, [`Error::ContentRejected`] when the rows are
    /// rejected.
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

    /// The size of the table's file in bytes: reveals whether an append without a response was executed.
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
    let text = body["error"]["message"].as_str().map_or_else(|| reply.text(), ToOwned::to_owned);
    let (what, text) = (what.to_owned(), format!("{text} ({})", reply.status));
    if reply.status == 400 {
        return Err(Error::ContentRejected { what, text });
    }
    let temporary = matches!(reply.status, 408 | 429 | 502..=504);
    Err(Error::Refused { what, text, temporary })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_server_are_distinguished() {
        let of = |text: &str| upload_event(&serde_json::from_str(text).unwrap());
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
        assert_eq!(of(text), UploadEvent::View(view.clone()));
        // A view of a wide table has its first columns alone.
        let wide = text.replace("\"loading\":true", "\"loading\":true,\"columns_total\":3000");
        assert_eq!(of(&wide), UploadEvent::View(View { columns: 3000, ..view }));
    }
}
