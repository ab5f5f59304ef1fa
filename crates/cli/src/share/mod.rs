//! `tidings share`: creates a shared live table from a file, and appends later rows to it.
//!
//! A file is sent over a WebSocket ([`upload`]); later rows, from standard input or a growing file ([`tail`]), are
//! appended over HTTP ([`append`]), split in the table's dialect ([`dialect`]).
//!
//! Invariants: the first line of stdout is the link, as soon as it exists; only complete rows are appended; rows
//! without a response are sent again only if the table has not grown by them.

mod append;
mod dialect;
mod ends;
mod meter;
mod tail;
mod upload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tidings_client::table::Credentials;
use tidings_client::{Server, Web};

use crate::failure::Failure;
use crate::interrupt::{block_on, interrupted};
use crate::target::TlsArgs;

/// Default address of the HTTP port.
const DEFAULT: &str = "http://127.0.0.1:8000";
/// The time for the command to end after a signal.
const GRACE: Duration = Duration::from_secs(2);

/// Shares a table: sends a CSV, XLSX, Parquet or JSON file to the server and prints its link
#[derive(Args, Debug)]
#[command(after_long_help = "\
All users who open the link see the same page of the table, live. The second line is the owner's link: it can lock and \
delete the table, so keep it secret. The table is kept while it has viewers and for a day after (the \
server's tables.keep).

With --row-key the table has one row of each key: a row replaces the earlier one, here and when rows are appended \
later, and programs replace and remove rows by key over HTTP.

With - the table is created from the first lines of standard input, and later lines are appended as they arrive. --follow does the \
same with a growing file, like `tail -F`: a file that was rotated or truncated is read from its beginning, \
without its header. Rows are decoded in the table's dialect and wait until their quotes close; a row that the server \
rejects is skipped and reported. The command then runs until it is interrupted (with - until the end of input). Rows are \
appended to text and to JSON objects one after another; files of other formats do not grow.

Examples:
  tidings share export.csv
  tidings share export.csv --server https://push.example.org
  some-job | tidings share - --name results.tsv
  tidings share --follow /var/log/orders.csv
  tidings share prices.csv --row-key symbol")]
pub(crate) struct Share {
    /// The file; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Appends rows that are written to the file later, across rotation
    #[arg(long, short = 'F')]
    follow: bool,

    /// The name of the table; the default is the file's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The columns that identify a row, by name. A row then replaces the earlier row with the same cells in them
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    row_key: Vec<String>,

    /// The server's HTTP port, or the proxy in front of it, with its path prefix if there is one
    #[arg(long, value_name = "URL", env = "TIDINGS_SERVER", default_value = DEFAULT, value_parser = http_port)]
    server: Web,

    /// The server's API key, if it is required to create a table
    #[arg(long, value_name = "KEY", env = "TIDINGS_HTTP_API_KEY", hide_env_values = true)]
    key: Option<String>,

    /// A connection token, as `tidings token` creates them, if it is required to create a table
    #[arg(long, value_name = "TOKEN", env = "TIDINGS_TOKEN", hide_env_values = true)]
    token: Option<String>,

    #[command(flatten)]
    tls: TlsArgs,
}

impl Share {
    /// Runs until everything is sent; a followed input until it ends or a signal arrives.
    ///
    /// # Errors
    /// A file that cannot be read, a server that rejects the upload.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let is_stdin = self.file == Path::new("-");
        if is_stdin && self.follow {
            return Err(Failure::Usage("standard input is always followed: remove --follow".to_owned()));
        }
        self.tls.apply()?;
        let mut stop = interrupted(1, GRACE)?;
        block_on(async {
            if is_stdin {
                return self.share_input(&mut stop).await;
            }
            if self.follow {
                return self.share_growing(&mut stop).await;
            }
            self.share_file(&mut stop).await
        })
    }

    /// The credentials for creating the table.
    fn credentials(&self) -> Credentials {
        Credentials { key: self.key.clone(), token: self.token.clone() }
    }

    /// The name of the table.
    fn title(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        if self.file == Path::new("-") {
            return "standard input".to_owned();
        }
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// An error of the file, in one line.
    fn unreadable(&self, error: &std::io::Error) -> Failure {
        let name = if self.file == Path::new("-") {
            "standard input".into()
        } else {
            self.file.display().to_string()
        };
        Failure::Failed(format!("cannot read {name}: {}", tidings_client::error::reason(error)))
    }
}

/// Parses the address of an HTTP port; a WebSocket address is accepted.
fn http_port(text: &str) -> Result<Web, String> {
    match text.parse()? {
        Server::Web(web) => Ok(Web { websocket: false, ..web }),
        other => Err(format!("{other} is not an HTTP port: use http://HOST:PORT or https://HOST")),
    }
}
