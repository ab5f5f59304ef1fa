//! Reloads of the certificate: at an interval, and with a new configuration; without a restart.

use std::sync::{Arc, PoisonError};

use tidings_config::TlsOptions;
use tidings_metrics::labels;

use super::Tls;
use super::material::{Material, MaterialError, ServerConfigs};

labels! {
    /// The outcome of a reload of the certificate.
    pub(super) enum ReloadOutcome {
        /// The certificate is in use.
        Done => "done",
        /// The certificate cannot be used. The previous one stays in use.
        Failed => "failed",
    }
}

/// A certificate that was read and can be used.
#[derive(Debug)]
pub struct Renewal {
    options: TlsOptions,
    configs: ServerConfigs,
    material: Material,
}

impl Tls {
    /// Reads the certificate and its key as new options name them, for [`Self::renew`].
    ///
    /// # Errors
    /// [`MaterialError`]. It is counted as a failed reload.
    pub fn prepare(&self, options: &TlsOptions) -> Result<Renewal, MaterialError> {
        let read = Material::read(options)
            .and_then(|material| Ok((material.server_configs(options, self.http_protocols)?, material)))
            .inspect_err(|_| {
                self.counters.reloads.add(ReloadOutcome::Failed);
            });
        read.map(|(configs, material)| Renewal { options: options.clone(), configs, material })
    }

    /// Uses a certificate for new connections.
    pub fn renew(&self, renewal: Renewal) {
        let Renewal { options, configs, material } = renewal;
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner) = material;
        self.use_configs(configs);
    }

    fn use_configs(&self, configs: ServerConfigs) {
        *self.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
        self.counters.reloads.add(ReloadOutcome::Done);
        tracing::info!("the TLS certificate was read again and is used for new connections");
    }

    /// Reads the certificate again every `tls.reload_interval`, until the task is cancelled.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.reload_interval).await;
            let tls = Arc::clone(&self);
            // Reading files can block for long.
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
        }
    }

    /// Reads the files and uses their content if it has changed.
    fn reload(&self) {
        let options = self.options.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = Material::read(&options);
        let mut last_read = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        let configs = match read {
            Ok(material) if material == *last_read => return,
            Ok(material) => {
                let configs = material.server_configs(&options, self.http_protocols);
                *last_read = material;
                configs
            }
            // The same error is logged once.
            Err(error) if last_read.is_failed_with(&error.to_string()) => return,
            Err(error) => {
                *last_read = Material::failed(error.to_string());
                Err(error)
            }
        };
        match configs {
            Ok(configs) => self.use_configs(configs),
            Err(error) => {
                self.counters.reloads.add(ReloadOutcome::Failed);
                tracing::warn!(%error, "the TLS certificate cannot be used; the previous one stays in use");
            }
        }
    }
}
