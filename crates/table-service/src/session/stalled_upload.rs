//! Stalled uploads: an upload without progress for `tables.upload_timeout` is aborted, so that other clients can upload
//! to the table.

use super::*;

impl Session {
    /// Whether more bytes of a file are expected.
    pub(super) fn uploads(&self) -> bool {
        matches!(self.incoming, Incoming::Whole(_) | Incoming::Chunks(_))
    }

    /// The longest pause of an upload. Afterwards other clients may upload to the table.
    pub(super) fn stall_timeout(&self) -> Duration {
        self.service.options.upload_timeout
    }

    /// Ends an upload without progress.
    pub(super) async fn abort_stalled_upload(&mut self) {
        let after = match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Chunks(upload) => {
                upload.abort().await;
                Incoming::RefusedChunks
            }
            Incoming::Whole(upload) => {
                upload.abort().await;
                Incoming::RefusedWhole
            }
            // Discarded messages have no deadline.
            other => other,
        };
        self.incoming = after;
        let seconds = self.stall_timeout().as_secs_f32();
        self.refuse(&Failure::new(
            408,
            format!(
                "no bytes of the file arrived for {seconds} s (tables.upload_timeout); the upload was aborted"
            ),
        ));
    }
}
