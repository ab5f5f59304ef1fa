//! The log line of the start: what an operator needs to recognize a node and its configuration.

use std::path::Path;

use tidings_config::{AuditTarget, Config, DataDir};

use crate::Server;

impl Server {
    /// Logs the version, the configuration file, the data directory, the broker without its password, and the addresses.
    pub fn log_start(&self, file: Option<&Path>) {
        let config = self.config();
        let data_dir = match &config.data_dir {
            DataDir::Folder(folder) => folder.display().to_string(),
            DataDir::Off | DataDir::User => "off".to_owned(),
        };
        let audit = match &config.log.audit {
            AuditTarget::Off => "off".to_owned(),
            AuditTarget::Log => "log".to_owned(),
            AuditTarget::File(path) => path.display().to_string(),
        };
        let traces = config.opentelemetry.endpoint.is_some().then(|| traces_address(&config));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            config = file.map_or_else(|| "none".to_owned(), |path| path.display().to_string()),
            data_dir,
            broker = config.broker.to_string(),
            tcp = addresses(self.announcements(), "tcp"),
            http = addresses(self.announcements(), "http"),
            internal = addresses(self.announcements(), "internal"),
            page = page(self.announcements()),
            audit,
            traces,
            "started"
        );
    }
}

/// The addresses of one kind of listeners, separated by commas; `None` without listeners.
fn addresses(announcements: &[String], kind: &str) -> Option<String> {
    let address = |line: &String| line.strip_prefix(kind)?.strip_prefix(' ').map(str::to_owned);
    let all: Vec<_> = announcements.iter().filter_map(address).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// The URL of the page: that of the first listener of HTTP that is no Unix socket.
fn page(announcements: &[String]) -> Option<&str> {
    announcements.iter().find_map(|line| line.strip_prefix("http ").filter(|url| url.starts_with("http")))
}

/// The collector of traces, without a path or a query.
fn traces_address(config: &Config) -> String {
    let uri =
        config.opentelemetry.endpoint.as_ref().map(|endpoint| endpoint.uri().clone()).unwrap_or_default();
    format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority().map_or("", |host| host.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_listener_has_its_addresses() {
        let lines = [
            "tcp 127.0.0.1:5567",
            "tcp unix:/run/t.sock",
            "http unix:/run/h.sock",
            "http https://[::1]:8000/",
        ];
        let lines = lines.map(str::to_owned);
        assert_eq!(addresses(&lines, "tcp").as_deref(), Some("127.0.0.1:5567, unix:/run/t.sock"));
        assert_eq!(addresses(&lines, "internal"), None);
        assert_eq!(page(&lines), Some("https://[::1]:8000/"));
    }
}
