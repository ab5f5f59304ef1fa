//! `tidings share`: creates a shared live table from a file, and appends later rows to it.
//!
//! A file is sent over a WebSocket ([`upload`]); later rows, from standard input, a growing file ([`tail`]) or a channel
//! ([`channel`]), are appended over HTTP ([`append`]), split in the table's dialect (crate `row-splitter`).
//!
//! Invariants: the first line of stdout is the link, as soon as it exists; only complete rows are appended; rows
//! without a response are sent again only if the table has not grown by them.

mod append;
mod channel;
mod meter;
mod tail;
mod upload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tidings_client::Web;
use tidings_client::table::Credentials;
use tidings_wire::Channel;

use crate::failure::{Failure, print_notice};
use crate::input::stdin_chunks;
use crate::interrupt::{block_on, interrupted};
use crate::target::{TlsArgs, http_port};
use crate::text::grouped;

/// Default address of the HTTP port.
const DEFAULT: &str = "http://127.0.0.1:8000";
/// The most skipped items that are reported individually.
const MAX_REPORTED: u64 = 5;
/// The time for the command to end after a signal.
const GRACE: Duration = Duration::from_secs(2);

/// Shares a table: sends a CSV, XLSX, Parquet or JSON file to the server and prints its link
#[derive(Args, Debug)]
#[command(after_long_help = "\
All users who open the link see the same page of the table, live. The second line is the owner's link: it can lock and \
delete the table, so keep it secret. The table is kept while it has viewers and for a day after (the \
server's tables.keep).

With --channel the table is made of the JSON objects that are published there: each object is a row, and with --row-key it \
replaces the one of the same key. Its keys are the columns.

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
  tidings share prices.csv --row-key symbol
  tidings share --channel prices --row-key symbol")]
pub(crate) struct Share {
    /// The file; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "channel")]
    file: Option<PathBuf>,

    /// The channel whose publications are the rows, instead of a file
    #[arg(long, value_name = "CHANNEL", conflicts_with_all = ["file", "follow"])]
    channel: Option<String>,

    /// Appends rows that are written to the file later, across rotation
    #[arg(long, short = 'F')]
    follow: bool,

    /// The name of the table; the default is the name of the file or the channel
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

    /// A connection token, as `tidings token` creates them, if it is required to create a table or to subscribe
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
        if let Some(channel) = &self.channel {
            let unusable = |e| Failure::Usage(format!("'{channel}' cannot be subscribed to: {e}"));
            Channel::new(channel).map_err(unusable)?;
        }
        let is_stdin = self.path() == Path::new("-");
        if is_stdin && self.follow {
            return Err(Failure::Usage("standard input is always followed: remove --follow".to_owned()));
        }
        self.tls.apply()?;
        let mut stop = interrupted(1, GRACE)?;
        block_on(async {
            if let Some(channel) = &self.channel {
                print_notice(format_args!("waiting for the first object of the channel {channel}"));
                let objects = channel::objects(&self.server, self.token.as_deref(), channel);
                return self.share_input(objects, &mut stop).await;
            }
            if is_stdin {
                let chunks = stdin_chunks().map_err(|e| self.unreadable(&e))?;
                return self.share_input(chunks, &mut stop).await;
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
        if let Some(channel) = &self.channel {
            return channel.clone();
        }
        if self.path() == Path::new("-") {
            return "standard input".to_owned();
        }
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The path of the file; empty for a channel.
    fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(""))
    }

    /// An error of the input, in one line.
    fn unreadable(&self, error: &std::io::Error) -> Failure {
        let name = match &self.channel {
            Some(channel) => format!("the channel {channel}"),
            None if self.path() == Path::new("-") => "standard input".to_owned(),
            None => self.path().display().to_string(),
        };
        Failure::Failed(format!("cannot read {name}: {}", tidings_client::error::reason(error)))
    }
}

/// Reports that an item of the input was skipped, the `count`th one. Of many, not every one is reported.
fn report_skipped(item: &str, why: &str, count: u64) {
    if count <= MAX_REPORTED {
        print_notice(format_args!("a {item} was skipped: {why}"));
    } else if count.is_power_of_two() {
        print_notice(format_args!("{} {item}s were skipped so far", grouped(count)));
    }
}
