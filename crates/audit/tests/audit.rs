//! The audit log with real files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tidings_audit::{Audit, AuditEvent, FAILURES};
use tidings_config::AuditTarget;
use tidings_metrics::{Format, MetricsRegistry};

const TIMEOUT: Duration = Duration::from_secs(10);
const CREATED: AuditEvent<'_> = AuditEvent::TableCreated { table: "t", address: None };
const FAILED: AuditEvent<'_> =
    AuditEvent::AuthenticationFailed { credential: "token", reason: "wrong", address: None };

fn audit(path: &Path) -> Audit {
    Audit::open(&AuditTarget::File(path.to_owned())).expect("a file")
}

/// The value of a sample in the metrics of an audit log.
fn metric(audit: Audit, sample: &str) -> String {
    let mut registry = MetricsRegistry::default();
    registry.register(audit);
    let text = String::from_utf8(registry.scrape(Format::OpenMetrics).expect("metrics")).expect("text");
    text.lines().find_map(|line| line.strip_prefix(sample)).expect("a sample").trim().to_owned()
}

#[test]
fn a_new_file_is_readable_by_its_owner_only_and_an_existing_one_is_appended_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.log");
    for _ in 0..2 {
        let audit = audit(&path);
        audit.record(&CREATED);
        audit.flush(TIMEOUT);
    }
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).expect("text");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.contains("\"event\":\"table_created\"")), "{text}");
}

#[test]
fn after_a_rotation_events_go_to_the_new_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    let audit = audit(&path);
    audit.record(&CREATED);
    audit.flush(TIMEOUT);
    fs::rename(&path, &old).expect("renamed");
    audit.record(&CREATED);
    audit.reopen();
    audit.record(&FAILED);
    audit.flush(TIMEOUT);
    let lines = |path| fs::read_to_string(path).expect("text").lines().count();
    assert_eq!((lines(&old), lines(&path)), (2, 1));
}

#[test]
fn a_full_disk_is_counted_and_does_not_delay_the_caller() {
    let audit = audit(Path::new("/dev/full"));
    let began = Instant::now();
    for _ in 0..5 {
        audit.record(&CREATED);
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    audit.flush(TIMEOUT);
    assert_eq!(metric(audit, "tidings_audit_left_out_total{reason=\"write\"}"), "5");
}

#[test]
fn an_attacker_cannot_fill_the_audit_log_and_orders_are_still_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.log");
    let audit = audit(&path);
    let attempts = 50 * u64::from(FAILURES.burst);
    for _ in 0..attempts {
        audit.record(&FAILED);
    }
    audit.record(&CREATED);
    audit.flush(TIMEOUT);
    let text = fs::read_to_string(&path).expect("text");
    let failures = text.lines().filter(|line| line.contains("authentication_failed")).count() as u64;
    assert!((u64::from(FAILURES.burst)..attempts / 4).contains(&failures), "{failures}");
    assert!(text.contains("table_created"), "an order has a limit of its own");
    let left_out: u64 =
        metric(audit, "tidings_audit_left_out_total{reason=\"rate\"}").parse().expect("a number");
    assert_eq!(failures + left_out, attempts);
}

#[test]
fn a_path_that_cannot_be_written_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in [folder.path().to_owned(), folder.path().join("missing").join("audit.log")] {
        assert!(Audit::open(&AuditTarget::File(path.clone())).is_err(), "{path:?}");
    }
    let off = Audit::default();
    off.record(&CREATED);
    assert!(!off.is_on());
}
