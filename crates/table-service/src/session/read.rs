//! Parses the input of a connection into messages and pieces of files.

use super::*;

/// The size of one read of an uploading connection, and of any other connection.
const UPLOAD_READ: usize = 256 << 10;
const MESSAGE_READ: usize = 2 << 10;

impl Session {
    /// Reads messages until the connection must be closed. Returns the reason.
    pub(super) async fn read(
        &mut self,
        input: &mut (impl AsyncRead + Unpin),
        early: Vec<u8>,
        pulse: &Heartbeat,
    ) -> Closing {
        let mut bytes = early;
        loop {
            // While a request is executed, pongs of the peer are not read, so their absence is no timeout.
            pulse.pause();
            if !bytes.is_empty()
                && let Err(closing) = self.take(&bytes).await
            {
                return closing;
            }
            self.outbox.has_room().await;
            pulse.on_input();
            let uploads = self.uploads();
            let size = if matches!(self.incoming, Incoming::Nothing) { MESSAGE_READ } else { UPLOAD_READ };
            bytes.clear();
            if bytes.capacity() > size {
                bytes = Vec::new();
            }
            bytes.reserve_exact(size);
            let read = input.read_buf(&mut bytes);
            let read = match uploads {
                // Pongs do not extend the deadline for the next bytes of a file.
                true => {
                    match tokio::time::timeout_at(self.last_upload_input + self.stall_timeout(), read).await {
                        Ok(read) => read,
                        Err(_) => {
                            self.abort_stalled_upload().await;
                            continue;
                        }
                    }
                }
                false => read.await,
            };
            match read {
                Ok(1..) => pulse.on_input(),
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// Reads and discards messages until the client's Close frame, the end of the connection, or an error.
    pub(super) async fn skip_to_close(&mut self, input: &mut (impl AsyncRead + Unpin)) {
        let rules = Rules { role: Role::Server, max_message: u64::MAX };
        let mut bytes = Vec::with_capacity(MESSAGE_READ);
        while matches!(input.read_buf(&mut bytes).await, Ok(1..)) {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let Ok((used, event)) = self.reader.read(rest, &rules, &mut self.message) else { return };
                rest = &rest[used..];
                match event {
                    Event::Close(_) => return,
                    Event::Message(_) => self.message.clear(),
                    // The end of the buffer may belong to a control frame.
                    _ => drop(self.message.drain(..self.message.len() - self.reader.own())),
                }
            }
            bytes.clear();
        }
    }

    /// Handles received bytes. An error is the reason to close the connection.
    async fn take(&mut self, mut bytes: &[u8]) -> Result<(), Closing> {
        while !bytes.is_empty() {
            let is_chunk = matches!(self.incoming, Incoming::Chunks(_) | Incoming::RefusedChunks);
            let max_message =
                if is_chunk { MAX_CHUNK } else { self.service.options.max_size.max(MAX_TEXT as u64) };
            let rules = Rules { role: Role::Server, max_message };
            let (used, event) = match self.reader.read(bytes, &rules, &mut self.message) {
                Ok(read) => read,
                Err(ProtocolError::TooBig(_)) if is_chunk => {
                    return Err(self.too_big(Failure::new(
                        413,
                        format!("a binary message of an upload may have {MAX_CHUNK} bytes"),
                    )));
                }
                Err(ProtocolError::TooBig(_)) => {
                    return Err(self.too_big(Failure::too_large(self.service.options.max_size)));
                }
                Err(error) => return Err(Some((error.close_code(), error.to_string()))),
            };
            bytes = &bytes[used..];
            match event {
                Event::Partial => self.partial().await?,
                Event::Message(Kind::Binary) => self.binary_end().await,
                Event::Message(Kind::Text) => {
                    self.check_text()?;
                    let message = std::mem::take(&mut self.message);
                    let text = String::from_utf8(message).expect("the reader checks that text is UTF-8");
                    self.text(&text).await;
                }
                // Without an answer, as on every WebSocket of the server.
                Event::Ping(payload) if self.usage.charge(payload.len()).is_err() => {
                    self.service.counters.errors.fetch_add(1, Ordering::Relaxed);
                }
                Event::Ping(payload) => {
                    let mut pong = Vec::new();
                    ws::frame(Opcode::Pong, &payload, &mut pong);
                    self.outbox.push(Bytes::from(pong));
                }
                Event::Pong(payload) => self.has_received_error |= *payload == *message::REFUSED,
                Event::Close(close) => {
                    let code = close.code().unwrap_or(CloseCode::NORMAL);
                    return Err(Some((code, String::new())));
                }
            }
            // While responses are unread, no input is handled, including buffered input.
            self.outbox.has_room().await;
        }
        Ok(())
    }

    fn check_text(&self) -> Result<(), Closing> {
        if self.message.len() - self.reader.own() > MAX_TEXT {
            return Err(self.too_big(Failure::new(413, format!("a text message may have {MAX_TEXT} bytes"))));
        }
        Ok(())
    }

    /// Handles a part of a message: the bytes of a binary message go to the upload.
    async fn partial(&mut self) -> Result<(), Closing> {
        match self.reader.begun() {
            Some(Kind::Text) => self.check_text(),
            Some(Kind::Binary) => {
                self.binary_begins().await;
                // The end of the buffer may belong to a control frame between two frames of the message.
                let own = self.message.split_off(self.message.len() - self.reader.own());
                self.forward().await;
                self.message.clear();
                self.message.extend_from_slice(&own);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Handles the end of a binary message.
    async fn binary_end(&mut self) {
        self.binary_begins().await;
        self.forward().await;
        self.message.clear();
        match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Whole(upload) => drop(upload.finish().await),
            Incoming::RefusedWhole | Incoming::Nothing => {}
            chunks => self.incoming = chunks,
        }
    }

    /// Handles the begin of a binary message outside of an upload: a complete file.
    async fn binary_begins(&mut self) {
        if matches!(self.incoming, Incoming::Nothing) {
            self.incoming = match self.begin(UploadOptions::default()).await {
                Ok(upload) => Incoming::Whole(upload),
                Err(failure) => {
                    self.fail(&failure);
                    Incoming::RefusedWhole
                }
            };
            self.last_upload_input = Instant::now();
        }
        let is_dropped = match &self.incoming {
            Incoming::Chunks(upload) => upload.has_ended(),
            Incoming::RefusedChunks => true,
            _ => false,
        };
        // Pieces that were in flight when the upload was rejected belong to it; this one does not.
        if is_dropped && std::mem::take(&mut self.has_received_error) {
            self.fail(&Failure::new(
                409,
                "this was discarded, because the upload before it was refused or has failed; send upload_end or \
                 upload_abort before you send another file",
            ));
        }
    }

    /// Waits until the limits of the client allow another part of a file. Bytes beyond them delay the next part.
    pub(super) async fn charge_part(&self, bytes: usize) {
        while !self.usage.charge_part(bytes) {
            tokio::time::sleep(CHARGE_INTERVAL).await;
        }
    }

    /// Forwards the bytes of the message to the upload, if one is running.
    async fn forward(&mut self) {
        if !self.message.is_empty() {
            self.charge_part(self.message.len()).await;
        }
        let (Incoming::Whole(upload) | Incoming::Chunks(upload)) = &mut self.incoming else { return };
        if self.message.is_empty() {
            return;
        }
        let length = self.message.len() as u64;
        self.service.counters.bytes.fetch_add(length, Ordering::Relaxed);
        let written = upload.write(&mut self.message).await;
        self.last_upload_input = Instant::now();
        if written.is_err() {
            // The room sends the reason.
            self.incoming = match self.incoming {
                Incoming::Whole(_) => Incoming::RefusedWhole,
                _ => Incoming::RefusedChunks,
            };
        }
    }
}
