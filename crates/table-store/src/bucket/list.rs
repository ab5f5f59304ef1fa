//! Pages of the tables in a bucket.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore as _;
use object_store::path::Path;

use super::{Bucket, MAX_GETS, RECORD};
use crate::StoreError;
use crate::disk::TABLE_OVERHEAD;
use crate::id::TableId;
use crate::listing::{StoredPage, StoredTable};

impl Bucket {
    /// At most `limit` tables with an id after `after`, in the order of their ids. Takes one request per thousand objects, and
    /// one for the record of each table.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) fn page(&self, after: Option<TableId>, limit: usize) -> Result<StoredPage, StoreError> {
        self.block_on(async {
            let mut page = self.list_objects(after, limit).await?;
            let tables = std::mem::take(&mut page.tables);
            let named = stream::iter(tables).map(|table| async move {
                match self.read_record(table.id).await {
                    Ok(Some((record, _))) => Ok(Some(StoredTable { name: Some(record.name), ..table })),
                    Ok(None) => Ok(None),
                    Err(StoreError::Corrupt) => Ok(Some(table)),
                    Err(error) => Err(error),
                }
            });
            page.tables =
                named.buffered(MAX_GETS).try_filter_map(|table| async { Ok(table) }).try_collect().await?;
            Ok(page)
        })
    }

    /// The tables as their objects show them, without names.
    async fn list_objects(&self, after: Option<TableId>, limit: usize) -> Result<StoredPage, StoreError> {
        let prefix = Path::from(&*self.prefix);
        let mut objects = match after {
            // Behind all objects of the table: `0` is the byte after `/`.
            Some(after) => {
                self.s3.list_with_offset(Some(&prefix), &Path::from(format!("{}{after}0", self.prefix)))
            }
            None => self.s3.list(Some(&prefix)),
        };
        let mut page = StoredPage::default();
        loop {
            let object = objects.try_next().await;
            let Some(object) = object.map_err(|error| self.unavailable("listing tables", &error))? else {
                break;
            };
            let Some((id, rest)) = self.object_of_table(&object.location) else { continue };
            if page.tables.last().is_none_or(|last| last.id != id) {
                if page.tables.len() == limit {
                    page.next = page.tables.last().map(|last| last.id);
                    break;
                }
                page.tables.push(StoredTable { id, name: None, bytes: TABLE_OVERHEAD, used: None });
            }
            if let Some(table) = page.tables.last_mut() {
                table.bytes += object.size;
                if rest == RECORD {
                    table.used = Some(object.last_modified.into());
                }
            }
        }
        Ok(page)
    }

    /// The table that an object belongs to, and the object's name within the table; `None` for other objects in the bucket.
    pub(super) fn object_of_table<'a>(&self, location: &'a Path) -> Option<(TableId, &'a str)> {
        let (id, name) = location.as_ref().strip_prefix(&self.prefix)?.split_once('/')?;
        Some((id.parse().ok()?, name))
    }
}
