//! The disk of tables, with files of its own.

use std::fs::OpenOptions;
use std::time::SystemTime;

use tidings_table::Budget as _;

use super::folder::RECORD;
use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn store(folder: &Path, max_total: u64, keep: Duration) -> Arc<Disk> {
    Arc::new(Disk::open(Some(folder), max_total, keep, false, Box::new(|| {})).expect("a store"))
}

/// A table with a file of so many bytes, which nobody has open.
fn table(store: &Arc<Disk>, bytes: usize) -> TableId {
    table_of(store, bytes, Quota::unlimited())
}

fn table_of(store: &Arc<Disk>, bytes: usize, quota: Quota) -> TableId {
    let place = store.create().expect("a folder");
    let name = place.new_file().expect("a folder");
    let uploader = quota.key.to_string();
    store.reserve(bytes as u64 + TABLE, quota, Some(&name)).expect("room").keep();
    fs::write(place.file(&name).join("original"), vec![b'x'; bytes]).expect("a file");
    place.save(&Record { file: Some(name), uploader, ..Record::new(None) }).expect("a record");
    place.id
}

fn reserve(store: &Arc<Disk>, bytes: u64) -> Result<Reserved, StoreError> {
    store.reserve(bytes, Quota::unlimited(), None)
}

fn age(store: &Disk, id: TableId, by: Duration) {
    let record = OpenOptions::new().write(true).open(store.folder(id).join(RECORD)).expect("a record");
    record.set_modified(SystemTime::now() - by).expect("a time");
}

#[test]
fn a_table_is_found_again_and_knows_nothing_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 1 << 20, DAY);
    let id = table(&store, 10);
    let (place, record) = store.find(id).expect("a disk").expect("the table");
    assert_eq!(fs::read(place.file(&record.file.expect("a file")).join("original")).expect("it").len(), 10);
    assert!(store.find(TableId::random()).expect("a disk").is_none());
}

#[test]
fn what_a_dead_process_left_is_removed_at_the_start_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = store(folder.path(), 1 << 20, DAY);
    let id = table(&first, 10);
    let (place, _) = first.find(id).expect("a disk").expect("the table");
    let half = place.new_file().expect("a folder");
    fs::write(place.file(&half).join("original"), b"half").expect("a file");
    let never = first.create().expect("a folder");
    fs::write(never.file("record.json.1"), b"{").expect("a file");
    fs::write(folder.path().join("README"), b"not a table").expect("a file");
    // While a process has them open, another one's start leaves them alone.
    store(folder.path(), 1 << 20, DAY);
    assert!(place.file(&half).exists() && never.folder.exists());
    drop((place, never));
    let second = store(folder.path(), 1 << 20, DAY);
    let (place, record) = second.find(id).expect("a disk").expect("the table");
    assert!(!place.file(&half).exists());
    assert!(place.file(&record.file.expect("a file")).exists() && folder.path().join("README").exists());
    assert_eq!((second.tables(), second.used()), (1, 10 + TABLE));
}

#[test]
fn the_bound_is_kept_by_evicting_what_was_used_longest_ago_and_is_not_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 3 * TABLE + 100, DAY);
    let [old, older, oldest] = [(); 3].map(|()| table(&store, 30));
    for (id, hours) in [(old, 1), (older, 2), (oldest, 3)] {
        age(&store, id, Duration::from_secs(hours * 3600));
    }
    let there = |id| store.find(id).expect("a disk").is_some();
    let in_use = store.find(oldest).expect("a disk").expect("the table");
    let reserved = reserve(&store, 30).expect("room");
    assert_eq!((there(old), there(older), there(oldest)), (true, false, true));
    assert_eq!(reserve(&store, 2 * TABLE + 60).map(|_| ()).expect_err("no room").to_string(), store.full());
    drop((reserved, in_use));
    reserve(&store, 3 * TABLE + 90).expect("room");
    assert!(!there(oldest));
}

#[test]
fn a_requester_has_its_quota_and_its_own_tables_go_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 5 * TABLE, DAY);
    let quota = |key: &str, bytes| Quota { key: key.into(), bytes, ..Quota::unlimited() };
    let ann = || quota("user:ann", 2 * TABLE + 100);
    let bob = table_of(&store, 0, quota("user:bob", u64::MAX));
    age(&store, bob, 2 * Duration::from_secs(3600));
    let [first, second] = [(); 2].map(|()| table_of(&store, 10, ann()));
    age(&store, first, Duration::from_secs(3600));
    let there = |id| store.find(id).expect("a disk").is_some();
    // One more takes the place of her oldest one, and not of his, which is older.
    let third = table_of(&store, 10, ann());
    assert_eq!((there(bob), there(first), there(second), there(third)), (true, false, true, true));
    let in_use = [second, third].map(|id| store.find(id).expect("a disk").expect("the table"));
    let refused = store.reserve(TABLE, ann(), None).map(|_| ()).expect_err("no room");
    assert!(matches!(&refused, StoreError::Full(why) if why.contains("tables.max_total")), "{refused:?}");
    assert_eq!(store.refused[1].load(Ordering::Relaxed), 1);
    drop(in_use);
    // Where all tables are too much, her own go first as well.
    let mut coming = store.reserve(0, quota("user:ann", u64::MAX), None).expect("room");
    coming.grow(3 * TABLE).expect("room");
    assert!(there(bob) && !there(second));
    // A failed upload counts to no requester.
    drop(coming);
    store.sweep();
    assert_eq!(store.owned().of("user:ann"), if there(third) { TABLE + 10 } else { 0 });
}

#[test]
fn what_a_file_unpacks_to_and_a_removed_file_that_is_read_count_until_the_last_reader_has_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 2 * TABLE, DAY);
    let id = table(&store, 100);
    let (place, record) = store.find(id).expect("a disk").expect("the table");
    let file = record.file.expect("a file");
    let reader = store.charge(&place, &file);
    reader.reserve(500).expect("room");
    assert_eq!((store.used(), store.nameless()), (TABLE + 100, 500));
    let refused = reader.reserve(TABLE).expect_err("no room");
    assert!(
        refused.kind() == io::ErrorKind::QuotaExceeded && refused.to_string().contains("tables.max_total")
    );
    assert_eq!(reserve(&store, TABLE - 500).map(|_| ()).expect_err("no room").to_string(), store.full());
    store.delete(&place).expect("a disk");
    // The file is as large as its folder says, and the folder takes nothing of it.
    assert_eq!(store.nameless(), 500 + 100);
    reader.release(500);
    drop((place, reader));
    assert_eq!((store.used(), store.nameless()), (0, 0));
}

#[test]
fn a_table_that_nobody_uses_is_kept_as_long_as_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 1 << 20, DAY);
    let (fresh, stale, open) = (table(&store, 1), table(&store, 1), table(&store, 1));
    age(&store, stale, 2 * DAY);
    age(&store, open, 2 * DAY);
    let _in_use = store.find(open).expect("a disk").expect("the table");
    assert_eq!(store.sweep(), 1);
    let there = |id| store.find(id).expect("a disk").is_some();
    assert_eq!((there(fresh), there(stale), there(open)), (true, false, true));
}

#[test]
fn a_record_that_cannot_be_read_is_no_table_and_is_removed_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = store(folder.path(), 1 << 20, DAY);
    let (good, empty, odd) = (table(&first, 1), table(&first, 1), table(&first, 1));
    fs::write(first.folder(empty).join(RECORD), b"").expect("a file");
    fs::write(first.folder(odd).join(RECORD), b"{\"file\":3}").expect("a file");
    for id in [empty, odd] {
        assert!(first.find(id).expect("no failure").is_none());
        assert!(first.folder(id).exists());
    }
    let second = store(folder.path(), 1 << 20, DAY);
    assert!(!second.folder(empty).exists() && !second.folder(odd).exists());
    assert!(second.find(good).expect("a disk").is_some());
}

#[test]
fn a_temporary_store_goes_with_its_server() {
    let store = Disk::open(None, 1 << 20, DAY, false, Box::new(|| {})).expect("a store");
    let root = store.root.clone();
    assert!(root.exists());
    drop(store);
    assert!(!root.exists());
}
