//! Tables that a server fills from channels: their ids and owner secrets, and the process that fills them.
//!
//! ```text
//! <store>/feeds/key           the key of the ids and secrets, random
//!              /<uuid>.lock   locked by the process that fills the table
//! ```
//!
//! Invariants:
//! - Ids and secrets are keyed MACs of the channel's name: they are the same after a restart and in all processes that share
//!   the folder, and cannot be computed without the key.
//! - At most one process fills a table. The lock is released when the process ends, however it ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;

use super::{Disk, TableFolder};
use crate::id::{self, TableId};
use crate::record::Record;

const FOLDER: &str = "feeds";
const KEY: &str = "key";
/// The length of the key in bytes.
const KEY_LEN: usize = 32;

/// The identity of the table of a channel.
#[derive(Clone, PartialEq, Eq)]
pub struct FeedIdentity {
    /// The id of the table.
    pub id: TableId,
    /// The secret of its owner.
    pub secret: String,
}

impl Disk {
    /// The identity of the table of a channel. Creates the key for the first one. Blocks on the disk.
    ///
    /// # Errors
    /// Errors of the disk; [`io::ErrorKind::InvalidData`] when the key was damaged.
    pub fn feed_identity(&self, channel: &str) -> io::Result<FeedIdentity> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.feed_key()?);
        let mac = |label: &str| hmac::sign(&key, format!("{label}\0{channel}").as_bytes());
        let id = mac("id");
        let (bits, _) = id.as_ref().split_first_chunk().expect("32 bytes");
        let secret = BASE64_URL_SAFE_NO_PAD.encode(mac("owner"));
        Ok(FeedIdentity { id: TableId::from_bits(u128::from_be_bytes(*bits)), secret })
    }

    /// Locks the table of a channel for this process, until the drop of the file. `None` when another process fills it. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn lock_feed(&self, id: TableId) -> io::Result<Option<File>> {
        let path = self.feeds()?.join(format!("{id}.lock"));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The table with this id. Creates it with this record if it does not exist; one process at a time does so. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// Errors of the disk; [`io::ErrorKind::InvalidData`] for a damaged record.
    pub fn open_or_create(&self, id: TableId, record: Record) -> io::Result<(TableFolder, Record)> {
        let _turn = self.lock_key()?;
        let table_folder = self.copy(id)?;
        if let Some(stored) = table_folder.record()? {
            return Ok((table_folder, stored));
        }
        table_folder.save(&record)?;
        Ok((table_folder, record))
    }

    fn feeds(&self) -> io::Result<PathBuf> {
        let folder = self.root.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// Opens the file of the key, and waits until no other process has it locked.
    fn lock_key(&self) -> io::Result<File> {
        let path = self.feeds()?.join(KEY);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.lock()?;
        Ok(file)
    }

    fn feed_key(&self) -> io::Result<[u8; KEY_LEN]> {
        let mut file = self.lock_key()?;
        let mut key = Vec::new();
        file.read_to_end(&mut key)?;
        if key.is_empty() {
            let new = id::random_key();
            file.write_all(&new)?;
            file.sync_all()?;
            File::open(self.feeds()?)?.sync_all()?;
            return Ok(new);
        }
        key.try_into().map_err(|_| {
            let path = self.root.join(FOLDER).join(KEY);
            let text = format!(
                "{} does not have {KEY_LEN} bytes; without it the tables of channels get new links",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }
}
