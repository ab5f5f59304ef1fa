//! Tests of the folder of tables, with real files.

use std::fs::OpenOptions;
use std::time::SystemTime;

use tidings_table::Budget as _;

use super::folder::RECORD;
use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn store(folder: &Path, max_total: u64, keep: Duration) -> Arc<Disk> {
    Arc::new(Disk::open(Some(folder), max_total, keep, false, Box::new(|| {})).expect("a store"))
}

/// Stores a table with a file of `bytes` bytes. No process has it open.
fn table(store: &Arc<Disk>, bytes: usize) -> TableId {
    table_of(store, bytes, Quota::unlimited())
}

fn table_of(store: &Arc<Disk>, bytes: usize, quota: Quota) -> TableId {
    let table_folder = store.create().expect("a folder");
    let name = table_folder.new_file().expect("a folder");
    let uploader = quota.key.to_string();
    store.reserve(bytes as u64 + TABLE_OVERHEAD, quota, Some(&name)).expect("room").keep();
    fs::write(table_folder.file(&name).join("original"), vec![b'x'; bytes]).expect("a file");
    table_folder.save(&Record { file: Some(name), uploader, ..Record::new(None) }).expect("a record");
    table_folder.id
}

fn reserve(store: &Arc<Disk>, bytes: u64) -> Result<Reserved, StoreError> {
    store.reserve(bytes, Quota::unlimited(), None)
}

fn age(store: &Disk, id: TableId, by: Duration) {
    let record = OpenOptions::new().write(true).open(store.folder(id).join(RECORD)).expect("a record");
    record.set_modified(SystemTime::now() - by).expect("a time");
}

#[test]
fn a_table_is_found_by_its_id_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 1 << 20, DAY);
    let id = table(&store, 10);
    let (table_folder, record) = store.find(id).expect("a disk").expect("the table");
    assert_eq!(
        fs::read(table_folder.file(&record.file.expect("a file")).join("original")).expect("it").len(),
        10
    );
    assert!(store.find(TableId::random()).expect("a disk").is_none());
}

#[test]
fn pages_list_every_table_once_and_name_unreadable_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 1 << 20, DAY);
    let mut ids: Vec<_> = (0..5).map(|_| table(&store, 10)).collect();
    ids.sort_unstable();
    fs::write(store.folder(ids[1]).join(RECORD), "{").expect("a record");
    // A table that never had a file, and a folder of another program.
    let _nameless = store.create().expect("a folder");
    fs::create_dir(folder.path().join("other")).expect("a folder");
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.page(after, 2).expect("a page");
        assert!(page.tables.len() <= 2);
        found.extend(page.tables);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found.iter().map(|table| table.id).collect::<Vec<_>>(), pages), (ids.clone(), 3));
    for table in found {
        assert_eq!(table.name, (table.id != ids[1]).then(String::new));
        assert!(table.bytes >= TABLE_OVERHEAD + 10 && table.used.is_some());
    }
}

#[test]
fn left_overs_of_a_terminated_process_are_removed_at_the_start_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = store(folder.path(), 1 << 20, DAY);
    let id = table(&first, 10);
    let (table_folder, _) = first.find(id).expect("a disk").expect("the table");
    let half = table_folder.new_file().expect("a folder");
    fs::write(table_folder.file(&half).join("original"), b"half").expect("a file");
    let never = first.create().expect("a folder");
    fs::write(never.file("record.json.1"), b"{").expect("a file");
    fs::write(folder.path().join("README"), b"not a table").expect("a file");
    // Another process does not remove left-overs of tables that are open.
    store(folder.path(), 1 << 20, DAY);
    assert!(table_folder.file(&half).exists() && never.folder.exists());
    drop((table_folder, never));
    let second = store(folder.path(), 1 << 20, DAY);
    let (table_folder, record) = second.find(id).expect("a disk").expect("the table");
    assert!(!table_folder.file(&half).exists());
    assert!(
        table_folder.file(&record.file.expect("a file")).exists() && folder.path().join("README").exists()
    );
    assert_eq!((second.tables(), second.used_bytes()), (1, 10 + TABLE_OVERHEAD));
}

#[test]
fn the_limit_is_kept_by_evicting_the_least_recently_used_table_that_is_not_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 3 * TABLE_OVERHEAD + 100, DAY);
    let [old, older, oldest] = [(); 3].map(|()| table(&store, 30));
    for (id, hours) in [(old, 1), (older, 2), (oldest, 3)] {
        age(&store, id, Duration::from_secs(hours * 3600));
    }
    let there = |id| store.find(id).expect("a disk").is_some();
    let in_use = store.find(oldest).expect("a disk").expect("the table");
    let reserved = reserve(&store, 30).expect("room");
    assert_eq!((there(old), there(older), there(oldest)), (true, false, true));
    assert_eq!(
        reserve(&store, 2 * TABLE_OVERHEAD + 60).map(|_| ()).expect_err("no room").to_string(),
        store.limit_message()
    );
    drop((reserved, in_use));
    reserve(&store, 3 * TABLE_OVERHEAD + 90).expect("room");
    assert!(!there(oldest));
}

#[test]
fn a_requester_has_a_quota_and_its_own_tables_are_evicted_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 5 * TABLE_OVERHEAD, DAY);
    let quota = |key: &str, bytes| Quota { key: key.into(), bytes, ..Quota::unlimited() };
    let ann = || quota("user:ann", 2 * TABLE_OVERHEAD + 100);
    let bob = table_of(&store, 0, quota("user:bob", u64::MAX));
    age(&store, bob, 2 * Duration::from_secs(3600));
    let [first, second] = [(); 2].map(|()| table_of(&store, 10, ann()));
    age(&store, first, Duration::from_secs(3600));
    let there = |id| store.find(id).expect("a disk").is_some();
    // A further table evicts her oldest one, and not his older one.
    let third = table_of(&store, 10, ann());
    assert_eq!((there(bob), there(first), there(second), there(third)), (true, false, true, true));
    let in_use = [second, third].map(|id| store.find(id).expect("a disk").expect("the table"));
    let refused = store.reserve(TABLE_OVERHEAD, ann(), None).map(|_| ()).expect_err("no room");
    assert!(matches!(&refused, StoreError::Full(why) if why.contains("tables.max_total")), "{refused:?}");
    assert!(store.refused.iter().any(|refused| refused == ("quota", 1)));
    drop(in_use);
    // When the total is exceeded, her own tables are evicted first as well.
    let mut coming = store.reserve(0, quota("user:ann", u64::MAX), None).expect("room");
    coming.grow(3 * TABLE_OVERHEAD).expect("room");
    assert!(there(bob) && !there(second));
    // A failed upload counts for no requester.
    drop(coming);
    store.sweep();
    assert_eq!(store.requesters().total("user:ann"), if there(third) { TABLE_OVERHEAD + 10 } else { 0 });
}

#[test]
fn decompressed_text_and_a_removed_file_count_until_the_last_reader_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 2 * TABLE_OVERHEAD, DAY);
    let id = table(&store, 100);
    let (table_folder, record) = store.find(id).expect("a disk").expect("the table");
    let file = record.file.expect("a file");
    let reader = store.charge(&table_folder, &file);
    reader.reserve(500).expect("room");
    assert_eq!((store.used_bytes(), store.unlinked()), (TABLE_OVERHEAD + 100, 500));
    let refused = reader.reserve(TABLE_OVERHEAD).expect_err("no room");
    assert!(
        refused.kind() == io::ErrorKind::QuotaExceeded && refused.to_string().contains("tables.max_total")
    );
    assert_eq!(
        reserve(&store, TABLE_OVERHEAD - 500).map(|_| ()).expect_err("no room").to_string(),
        store.limit_message()
    );
    store.delete(&table_folder).expect("a disk");
    // The file counts with its size; the folder of the removed table counts nothing.
    assert_eq!(store.unlinked(), 500 + 100);
    reader.release(500);
    drop((table_folder, reader));
    assert_eq!((store.used_bytes(), store.unlinked()), (0, 0));
}

#[test]
fn an_unused_table_is_removed_after_the_configured_time() {
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
fn a_table_with_an_unreadable_record_is_not_found_and_removed_at_the_start() {
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
fn a_temporary_store_is_removed_on_drop() {
    let store = Disk::open(None, 1 << 20, DAY, false, Box::new(|| {})).expect("a store");
    let root = store.root.clone();
    assert!(root.exists());
    drop(store);
    assert!(!root.exists());
}

#[test]
fn a_new_log_replaces_the_old_one_whose_bytes_count_until_its_last_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path(), 1 << 20, DAY);
    let id = table(&store, 10_000);
    let (table_folder, record) = store.find(id).expect("a disk").expect("the table");
    let file = record.file.expect("a file");
    let before = store.used_bytes();
    let reader = store.charge(&table_folder, &file);
    let create = || store.create_log(&table_folder, &file).expect("a disk");
    let mut new = create().expect("a new log");
    assert!(create().is_none(), "two processes write the new log");
    io::Write::write_all(&mut new, &[b'y'; 4_000]).expect("room");
    assert_eq!(store.used_bytes(), before + 4_000);
    // A new log that is not complete leaves nothing.
    drop(new);
    assert_eq!(store.used_bytes(), before);
    assert_eq!(fs::read_dir(table_folder.file(&file)).expect("a folder").count(), 1);
    let mut new = create().expect("a new log");
    io::Write::write_all(&mut new, &[b'y'; 4_000]).expect("room");
    new.reserve(1 << 20).expect_err("above the limit");
    let charge = new.charge();
    let bytes = store.replace_log(&table_folder, &file, "", new).expect("replaced");
    assert_eq!(bytes, (10_000, 4_000));
    assert_eq!((store.used_bytes(), store.unlinked()), (before - 6_000, 10_000));
    drop(reader);
    assert_eq!(store.unlinked(), 0);
    assert!(
        Arc::ptr_eq(&charge, &store.charge(&table_folder, &file)),
        "readers of the new log have another charge"
    );
    assert_eq!(fs::read(table_folder.file(&file).join("original")).expect("a file"), [b'y'; 4_000]);
    assert!(create().is_some(), "the next one");
}

#[test]
fn the_new_log_of_a_terminated_process_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let id = {
        let store = store(folder.path(), 1 << 20, DAY);
        let id = table(&store, 10);
        let (table_folder, record) = store.find(id).expect("a disk").expect("the table");
        fs::write(table_folder.file(&record.file.expect("a file")).join(NEW_LOG), [0; 500]).expect("a file");
        id
    };
    let store = store(folder.path(), 1 << 20, DAY);
    assert_eq!(store.used_bytes(), 10 + TABLE_OVERHEAD);
    let (table_folder, record) = store.find(id).expect("a disk").expect("the table");
    assert!(!table_folder.file(&record.file.expect("a file")).join(NEW_LOG).exists());
}
