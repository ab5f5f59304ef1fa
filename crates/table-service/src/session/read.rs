//! From a socket's bytes to messages, and pieces of files.

use super::*;

/// How much is read at once from a connection that uploads, and from any other.
const MUCH: usize = 256 << 10;
const LITTLE: usize = 2 << 10;
impl Session {
    /// Reads until there is a reason to close the connection.
    pub(super) async fn read(
        &mut self,
        input: &mut (impl AsyncRead + Unpin),
        early: Vec<u8>,
        pulse: &Pulse,
    ) -> Closing {
        let mut bytes = early;
        loop {
            // While something is done that the peer has asked for, it is not heard, but not gone either.
            pulse.busy();
            if !bytes.is_empty()
                && let Err(closing) = self.take(&bytes).await
            {
                return closing;
            }
            self.outbox.has_room().await;
            pulse.heard();
            let uploads = self.uploads();
            let size = if matches!(self.incoming, Incoming::Nothing) { LITTLE } else { MUCH };
            bytes.clear();
            if bytes.capacity() > size {
                bytes = Vec::new();
            }
            bytes.reserve_exact(size);
            let read = input.read_buf(&mut bytes);
            let read = match uploads {
                // Whatever else comes, pongs say, the file has to.
                true => match tokio::time::timeout_at(self.moved + self.patience(), read).await {
                    Ok(read) => read,
                    Err(_) => {
                        self.give_up().await;
                        continue;
                    }
                },
                false => read.await,
            };
            match read {
                Ok(1..) => pulse.heard(),
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// Whether more of a file is waited for.
    fn uploads(&self) -> bool {
        matches!(self.incoming, Incoming::Whole(_) | Incoming::Chunks(_))
    }

    /// How long an upload may stand still before it is given up, so that it does not keep others from uploading.
    fn patience(&self) -> Duration {
        self.service.options.upload_timeout
    }

    /// An upload stands still.
    async fn give_up(&mut self) {
        let after = match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Chunks(upload) => {
                upload.abort().await;
                Incoming::RefusedChunks
            }
            Incoming::Whole(upload) => {
                upload.abort().await;
                Incoming::RefusedWhole
            }
            // Nobody waits for what is dropped anyway.
            other => other,
        };
        self.incoming = after;
        let seconds = self.patience().as_secs_f32();
        self.refuse(&Failure::new(
            408,
            format!(
                "nothing of the file came for {seconds} s (tables.upload_timeout); the upload was given up"
            ),
        ));
    }

    /// Takes bytes that were read; an error is the reason to close.
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
                Event::Ping(payload) => {
                    let mut pong = Vec::new();
                    ws::frame(Opcode::Pong, &payload, &mut pong);
                    self.outbox.push(Bytes::from(pong));
                }
                Event::Pong(payload) => self.knows |= *payload == *message::REFUSED,
                Event::Close(close) => {
                    let code = close.code().unwrap_or(CloseCode::NORMAL);
                    return Err(Some((code, String::new())));
                }
            }
            // Answers that nobody reads stop the reading, also of what has come already.
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

    /// A message goes on: what has come of a binary one is handed on.
    async fn partial(&mut self) -> Result<(), Closing> {
        match self.reader.begun() {
            Some(Kind::Text) => self.check_text(),
            Some(Kind::Binary) => {
                self.binary_begins().await;
                // The end of the buffer may be a control frame's that came between.
                let own = self.message.split_off(self.message.len() - self.reader.own());
                self.hand_on().await;
                self.message.clear();
                self.message.extend_from_slice(&own);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A binary message is whole, or the rest of it.
    async fn binary_end(&mut self) {
        self.binary_begins().await;
        self.hand_on().await;
        self.message.clear();
        match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Whole(upload) => upload.finish().await,
            Incoming::RefusedWhole | Incoming::Nothing => {}
            chunks => self.incoming = chunks,
        }
    }

    /// Outside an upload a binary message is a whole file.
    async fn binary_begins(&mut self) {
        if matches!(self.incoming, Incoming::Nothing) {
            self.incoming = match self.begin(String::new(), None).await {
                Ok(upload) => Incoming::Whole(upload),
                Err(failure) => {
                    self.fail(&failure);
                    Incoming::RefusedWhole
                }
            };
            self.moved = Instant::now();
        }
        let is_dropped = match &self.incoming {
            Incoming::Chunks(upload) => upload.has_ended(),
            Incoming::RefusedChunks => true,
            _ => false,
        };
        // What was on its way when the upload was refused is part of it; this is not.
        if is_dropped && std::mem::take(&mut self.knows) {
            self.fail(&Failure::new(
                409,
                "this was dropped, because the upload before it was refused or has failed; say upload_end or \
                 upload_abort before you send another file",
            ));
        }
    }

    /// Hands the bytes of the message on to the upload, if there is one that takes them.
    async fn hand_on(&mut self) {
        let (Incoming::Whole(upload) | Incoming::Chunks(upload)) = &mut self.incoming else { return };
        if self.message.is_empty() {
            return;
        }
        let length = self.message.len() as u64;
        self.service.counters.bytes.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        let written = upload.write(&mut self.message).await;
        self.moved = Instant::now();
        if written.is_err() {
            // The room tells why.
            self.incoming = match self.incoming {
                Incoming::Whole(_) => Incoming::RefusedWhole,
                _ => Incoming::RefusedChunks,
            };
        }
    }
}
