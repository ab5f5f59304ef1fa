//! Reloads of the certificate: at an interval and on request, without a restart.

use std::sync::{Arc, PoisonError};

use tidings_metrics::labels;

use super::Tls;
use super::material::Material;

labels! {
    /// The outcome of a reload of the certificate.
    pub(super) enum ReloadOutcome {
        /// The certificate is in use.
        Done => "done",
        /// The certificate cannot be used. The previous one stays in use.
        Failed => "failed",
    }
}

impl Tls {
    /// Requests that the certificate be read again now.
    pub fn request_reload(&self) {
        self.reload_requested.notify_one();
    }

    /// Reads the certificate again every `tls.reload_interval` and on request, until the task is cancelled.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let is_requested = tokio::select! {
                () = tokio::time::sleep(self.options.reload_interval) => false,
                () = self.reload_requested.notified() => true,
            };
            let tls = Arc::clone(&self);
            // Reading files can block for long.
            let _ = tokio::task::spawn_blocking(move || tls.reload(is_requested)).await;
        }
    }

    /// Reads the files and uses their content if it has changed, or if a reload was requested.
    fn reload(&self, is_requested: bool) {
        let read = Material::read(&self.options);
        let mut last_read = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        let configs = match read {
            Ok(material) if material == *last_read && !is_requested => return,
            Ok(material) => {
                let configs = material.server_configs(&self.options, self.http_protocols);
                *last_read = material;
                configs
            }
            // The same error is logged once.
            Err(error) if last_read.is_failed_with(&error.to_string()) && !is_requested => return,
            Err(error) => {
                *last_read = Material::failed(error.to_string());
                Err(error)
            }
        };
        match configs {
            Ok(configs) => {
                *self.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
                self.counters.reloads.add(ReloadOutcome::Done);
                tracing::info!("the TLS certificate was read again and is used for new connections");
            }
            Err(error) => {
                self.counters.reloads.add(ReloadOutcome::Failed);
                tracing::warn!(%error, "the TLS certificate cannot be used; the previous one stays in use");
            }
        }
    }
}
