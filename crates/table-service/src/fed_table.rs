//! Tables that the server fills from channels: found or created by their channel, written with the owner's secret.
//!
//! Invariants:
//! - The table of a channel always exists: a request for its id creates it, also after it was deleted.
//! - No client changes its rows: the owner's secret never leaves the server, and uploads are locked.
//! - The task that fills it is no viewer of it, except while it uploads the first rows.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidings_table_commands::command::{Command, UploadOptions};
use tidings_table_live::Share;
use tidings_table_store::{FeedIdentity, Locks, Quota, Record, TableFolder, TableId};
use tokio::sync::oneshot;

use super::Service;
use super::broadcast::ViewFormat;
use super::failure::Failure;
use super::http::complete_snapshot;
use super::outbox::Outbox;
use super::people::Actor;
use super::room::{JoinRequest, RoomRequest, ViewerHandle};
use super::rows::Rows;
use super::session::blocking;

/// The rows of one read of the keys.
const KEY_WINDOW: usize = 1_000;

/// The table of a channel.
pub struct FedTable {
    service: Arc<Service>,
    id: TableId,
    secret: String,
    name: String,
    key: Vec<String>,
    /// Whether no write has succeeded since the table had no rows.
    is_new: AtomicBool,
}

/// The result of [`FedTable::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The table had rows before.
    Changes,
    /// These are the first rows of the table: it is new, or was deleted.
    FirstRows,
}

impl Service {
    /// The table of a channel, with this name and the names of the columns of its key. From now on it exists. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn fed_table(self: &Arc<Self>, channel: &str, name: &str, key: &[String]) -> io::Result<FedTable> {
        let FeedIdentity { id, secret } = self.store.disk().feed_identity(channel)?;
        let record = Record {
            name: name.to_owned(),
            key: key.to_owned(),
            locks: Locks { uploads: true, view: false },
            ..Record::new(Some(&secret))
        };
        self.fed.lock().unwrap_or_else(PoisonError::into_inner).insert(id, record);
        let (service, name, key) = (Arc::clone(self), name.to_owned(), key.to_owned());
        Ok(FedTable { service, id, secret, name, key, is_new: AtomicBool::new(false) })
    }

    /// The table of a channel with this id, which is created if it does not exist.
    ///
    /// # Errors
    /// 404 when it is the id of no channel; errors of the disk.
    pub(super) async fn open_fed(&self, id: TableId) -> Result<(TableFolder, Record), Failure> {
        let record = self.fed.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let record = record.ok_or_else(Failure::unknown)?;
        let store = Arc::clone(&self.store);
        Ok(blocking(move || store.disk().open_or_create(id, record)).await??)
    }
}

impl FedTable {
    /// The path of the table's page.
    pub fn path(&self) -> String {
        format!("/tables/{}", self.id)
    }

    /// Locks the table for this process until the drop of the file; `None` when another process fills it. Blocks on the disk.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn lock(&self) -> io::Result<Option<File>> {
        self.service.store.disk().lock_feed(self.id)
    }

    /// A share of the memory of the keys of all tables, for the keys that the task remembers.
    pub fn key_memory(&self) -> Share {
        self.service.live.share()
    }

    /// Returns when the service stops.
    pub async fn stopped(&self) {
        let mut stopping = self.service.stopping.subscribe();
        // The service itself holds the sender.
        let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
    }

    /// Replaces the rows with the same keys, and appends the others. `objects`: JSON objects, each with all members of the
    /// key.
    ///
    /// # Errors
    /// 503 and 409 when a later attempt may succeed; 422 when an object is not accepted; 413 and 507 at a limit.
    pub async fn write(&self, objects: Bytes) -> Result<Written, Failure> {
        let rows = Arc::new(Rows::lines(objects.clone(), None).replacing());
        let written = self.service.request(self.id, |reply| RoomRequest::Append {
            rows: Arc::clone(&rows),
            secret: self.secret.clone(),
            reply,
        });
        match written.await? {
            Ok(_) if self.is_new.swap(false, Ordering::Relaxed) => Ok(Written::FirstRows),
            Ok(_) => Ok(Written::Changes),
            Err(failure) if failure == Failure::empty() => {
                self.is_new.store(true, Ordering::Relaxed);
                if let Err(failure) = self.upload(objects).await {
                    self.close_if_removed().await;
                    return Err(failure);
                }
                self.is_new.store(false, Ordering::Relaxed);
                Ok(Written::FirstRows)
            }
            // The keys did not fit into memory when the file was uploaded.
            Err(failure) if failure == Failure::no_key() => {
                self.set_key().await?;
                Err(Failure::new(503, "the table had no key, which is set again"))
            }
            Err(failure) => {
                self.close_if_removed().await;
                Err(failure)
            }
        }
    }

    /// Closes the room of a table whose folder another node has removed meanwhile, so that the next write creates it.
    async fn close_if_removed(&self) {
        let (store, id) = (Arc::clone(&self.service.store), self.id);
        let is_removed = blocking(move || matches!(store.find(id), Ok(None))).await;
        if is_removed == Ok(true)
            && let Some(room) = self.service.rooms.get(self.id)
        {
            let _ = room.send(RoomRequest::Stop(Duration::ZERO)).await;
        }
    }

    /// Uploads the first rows, as the owner, and waits until their keys are read.
    async fn upload(&self, objects: Bytes) -> Result<(), Failure> {
        let handle = self.join().await?;
        let mut uploaded = self.upload_as(&handle, objects).await;
        if uploaded.is_ok() {
            uploaded = self.set_key_as(&handle).await;
        }
        let _ = handle.requests.send(RoomRequest::Leave(handle.viewer)).await;
        uploaded
    }

    /// Sets the key of the table's file, which has none.
    async fn set_key(&self) -> Result<(), Failure> {
        let handle = self.join().await?;
        let keyed = self.set_key_as(&handle).await;
        let _ = handle.requests.send(RoomRequest::Leave(handle.viewer)).await;
        keyed
    }

    /// Joins the table as its owner.
    async fn join(&self) -> Result<ViewerHandle, Failure> {
        let outbox = Arc::new(Outbox::new(self.service.unread.clone()));
        let handle = self.service.request(self.id, |reply| {
            RoomRequest::Join(JoinRequest {
                form: ViewFormat::Tables,
                secret: Some(self.secret.clone()),
                actor: Actor::Append,
                is_creator: true,
                outbox: Arc::clone(&outbox),
                reply,
            })
        });
        handle.await
    }

    /// Sets the key, and waits until the keys of all rows are read.
    ///
    /// # Errors
    /// 503 while they do not fit into memory.
    async fn set_key_as(&self, handle: &ViewerHandle) -> Result<(), Failure> {
        let (done, keyed) = oneshot::channel();
        let command = Command::Key(self.key.clone());
        let request = RoomRequest::Command { viewer: handle.viewer, command, done };
        handle.requests.send(request).await.map_err(|_| Failure::stopping())?;
        match keyed.await.unwrap_or_else(|_| Err(Failure::stopping())) {
            // Memory is released when other tables are closed.
            Err(Failure { code: 507, message }) => Err(Failure::new(503, message)),
            keyed => keyed,
        }
    }

    async fn upload_as(&self, handle: &ViewerHandle, objects: Bytes) -> Result<(), Failure> {
        let options = UploadOptions {
            name: self.name.clone(),
            size: Some(objects.len() as u64),
            is_text: false,
            key: Some(self.key.clone()),
        };
        let (reply, upload) = oneshot::channel();
        let request =
            RoomRequest::Upload { viewer: handle.viewer, options, quota: Quota::unlimited(), reply };
        handle.requests.send(request).await.map_err(|_| Failure::stopping())?;
        let mut upload = upload.await.unwrap_or_else(|_| Err(Failure::stopping()))?;
        // An upload that has ended early gives the reason at its end.
        let _ = upload.write(&mut objects.to_vec()).await;
        upload.finish().await
    }

    /// Calls `each` with the cells of the key of every row, and returns the final state.
    ///
    /// # Errors
    /// 503 when the table cannot be read now; errors of the disk.
    pub async fn fold_keys<T: Send + 'static>(
        &self,
        mut state: T,
        each: fn(&mut T, &[&str]),
    ) -> Result<T, Failure> {
        let snapshot = match complete_snapshot(&self.service, &self.id.to_string()).await {
            Err(failure) if failure == Failure::empty() => return Ok(state),
            snapshot => snapshot?,
        };
        let key = self.key.clone();
        blocking(move || {
            let plain = tidings_table::View::plain(snapshot.view.reading(), false);
            let Some(header) = plain.header()? else { return Ok(state) };
            let position = |name: &String| header.cells.iter().position(|cell| cell.text == *name);
            let Some(columns) = key.iter().map(position).collect::<Option<Vec<_>>>() else {
                return Ok(state);
            };
            let width = columns.iter().max().map_or(0, |last| last + 1);
            let mut from = 0;
            loop {
                let page = plain.window(from, KEY_WINDOW, 0..width)?;
                if page.rows.is_empty() {
                    return Ok(state);
                }
                from += page.rows.len() as u64;
                for row in &page.rows {
                    let cell = |column: &usize| row.cells.get(*column).map_or("", |cell| &*cell.text);
                    each(&mut state, &columns.iter().map(cell).collect::<Vec<_>>());
                }
            }
        })
        .await?
    }
}
