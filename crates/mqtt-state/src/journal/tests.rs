use super::*;

fn frames(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut keep = |frame: &[u8]| {
        found.push(String::from_utf8_lossy(frame).into_owned());
        true
    };
    load::read_files(folder, "test", &mut keep).unwrap();
    found
}

/// The error of a start with these files.
fn error(folder: &Path) -> String {
    load(folder, "test", |_| true).unwrap_err().to_string()
}

fn start(folder: &Path, state: &[&str]) -> Journal {
    let loaded = load(folder, "test", |_| true).unwrap();
    Journal::start(folder, "test", loaded, state.iter().map(|frame| frame.as_bytes().to_vec())).unwrap()
}

#[test]
fn frames_of_snapshot_and_logs_are_read_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = start(folder.path(), &["a"]);
    journal.append(b"b").unwrap();
    assert_eq!(frames(folder.path()), ["a", "b"]);
    let snapshot = journal.begin_snapshot().unwrap();
    journal.append(b"c").unwrap();
    assert_eq!(frames(folder.path()), ["a", "b", "c"], "the snapshot is not written yet");
    journal.end_snapshot(snapshot.write([b"ab".to_vec()].into_iter()));
    journal.append(b"d").unwrap();
    assert_eq!(frames(folder.path()), ["ab", "c", "d"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "earlier files are removed");
    assert!(journal.unsynced().is_some());
    assert!(journal.unsynced().is_none());
}

#[test]
fn an_incomplete_end_is_ignored_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = start(folder.path(), &[]);
    for frame in ["first", "second", "third"] {
        journal.append(frame.as_bytes()).unwrap();
    }
    let path = folder.path().join(log_name("test", 1));
    let whole = fs::read(&path).unwrap();
    let ends = [8, 21, 35, 48];
    assert_eq!(whole.len(), ends[3]);
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let complete = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
        assert_eq!(frames(folder.path()).len(), complete, "{length} bytes");
    }
    assert!(!folder.path().join("test.damaged").exists());
}

#[test]
fn a_damaged_log_counts_up_to_the_damage_and_a_copy_of_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = start(folder.path(), &[]);
    for frame in ["first", "second", "third"] {
        journal.append(frame.as_bytes()).unwrap();
    }
    let path = folder.path().join(log_name("test", 1));
    let mut damaged = fs::read(&path).unwrap();
    damaged[33] ^= 1;
    let zeros = [&damaged[..21], &[0; 100]].concat();
    let header = [&[0], &damaged[1..]].concat();
    for (bytes, wanted) in [(&damaged, &["first"][..]), (&zeros, &["first"]), (&header, &[])] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(frames(folder.path()), wanted);
        assert_eq!(&fs::read(folder.path().join("test.damaged")).unwrap(), bytes);
    }
}

#[test]
fn files_of_another_version_are_an_error_and_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    drop(start(folder.path(), &["state"]));
    for name in [log_name("test", 1), snapshot_name("test", 1)] {
        let path = folder.path().join(&name);
        let before = fs::read(&path).unwrap();
        let mut other = before.clone();
        other[7] = 2;
        fs::write(&path, &other).unwrap();
        let error = error(folder.path());
        assert!(error.contains(&format!("{name} has version 2; this program reads version 1")), "{error}");
        assert_eq!(fs::read(&path).unwrap(), other);
        fs::write(&path, before).unwrap();
    }
    assert_eq!(frames(folder.path()), ["state"]);
}

#[test]
fn the_files_belong_to_one_process_until_it_closes_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = start(folder.path(), &[]);
    let error = error(folder.path());
    assert!(error.contains("another process uses it") && error.contains("data_dir"), "{error}");
    journal.append(b"change").unwrap();
    journal.close();
    assert!(journal.append(b"late").is_err());
    assert!(!journal.needs_snapshot());
    drop(load(folder.path(), "test", |_| true).unwrap());
    assert_eq!(frames(folder.path()), ["change"]);
}

#[test]
fn a_damaged_snapshot_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    drop(start(folder.path(), &["state"]));
    let path = folder.path().join(snapshot_name("test", 1));
    let mut bytes = fs::read(&path).unwrap();
    bytes[18] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = error(folder.path());
    assert!(error.contains("test-1.snapshot is damaged"), "{error}");
}

#[test]
fn a_snapshot_is_due_when_the_log_is_as_long_as_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = start(folder.path(), &[]);
    let frame = vec![0; 1 << 20];
    for _ in 0..7 {
        journal.append(&frame).unwrap();
    }
    assert!(!journal.needs_snapshot());
    journal.append(&frame).unwrap();
    assert!(journal.needs_snapshot());
    let snapshot = journal.begin_snapshot().unwrap();
    assert!(!journal.needs_snapshot(), "one at a time");
    journal.end_snapshot(snapshot.write(std::iter::empty()));
    assert!(!journal.needs_snapshot());
    assert_eq!(journal.bytes(), 8, "the header of the snapshot");
}

#[test]
fn after_an_error_changes_fail_until_a_snapshot_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = start(folder.path(), &[]);
    // Every write to this file fails, as on a full disk.
    journal.log = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(journal.append(b"lost").is_err());
    assert!(journal.append(b"lost").is_err());
    assert!(journal.needs_snapshot());
    let snapshot = journal.begin_snapshot().unwrap();
    assert!(journal.append(b"later").is_err(), "the state is not written yet");
    journal.end_snapshot(snapshot.write([b"state".to_vec()].into_iter()));
    journal.append(b"last").unwrap();
    assert_eq!(frames(folder.path()), ["state", "later", "last"]);
    assert_eq!(journal.failures(), 1);
}

#[test]
fn snapshots_that_fail_are_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = start(folder.path(), &[]);
    journal.fail(&io::ErrorKind::StorageFull.into());
    assert!(journal.needs_snapshot(), "the first attempt is immediate");
    journal.begin_snapshot().unwrap();
    journal.end_snapshot(Err(io::ErrorKind::StorageFull.into()));
    assert!(!journal.needs_snapshot());
    journal.retry = Some(Instant::now());
    assert!(journal.needs_snapshot());
    let snapshot = journal.begin_snapshot().unwrap();
    journal.end_snapshot(snapshot.write(std::iter::empty()));
    journal.check().unwrap();
    assert_eq!(journal.failures(), 2);
}
