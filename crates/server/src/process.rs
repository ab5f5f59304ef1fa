//! What the operating system says about this process. Where it has no `/proc`, less is known.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::lifecycle::Lifecycle;
use tidings_metrics::{BYTES, Collect, MetricWriter, SECONDS};

/// Reports the process and the build.
pub(crate) struct ProcessMetrics {
    lifecycle: Arc<Lifecycle>,
    /// When the server was started, since the Unix epoch.
    began: Duration,
}

impl ProcessMetrics {
    /// Of a server that was just started.
    pub(crate) fn new(lifecycle: Arc<Lifecycle>) -> Self {
        let began = SystemTime::now().checked_sub(lifecycle.uptime()).unwrap_or(UNIX_EPOCH);
        Self { lifecycle, began: began.duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

impl Collect for ProcessMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.info("tidings_build", "What was built", ("version", env!("CARGO_PKG_VERSION")))?;
        let uptime = self.lifecycle.uptime().as_secs_f64();
        out.gauge("tidings_uptime", SECONDS, "Time since the server was started", uptime)?;
        let cpu = processor_time().as_secs_f64();
        out.counter("process_cpu", SECONDS, "Processor time used, of user and system", cpu)?;
        let began = self.began.as_secs_f64();
        out.gauge("process_start_time", SECONDS, "When the server was started, since the Unix epoch", began)?;
        if let Some(bytes) = resident_bytes() {
            out.gauge("process_resident_memory", BYTES, "Memory in use", bytes)?;
        }
        if let Some(open) = open_files() {
            out.gauge("process_open_fds", None, "Open files and sockets", open)?;
        }
        if let Some(most) = most_files() {
            out.gauge("process_max_fds", None, "How many files and sockets may be open", most)?;
        }
        Ok(())
    }
}

/// The memory that is in use, in bytes (`VmRSS`, proc_pid_status(5)).
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// How many files and sockets are open.
pub(crate) fn open_files() -> Option<u64> {
    // Since Linux 6.2 the folder's size is their number, which spares listing a hundred thousand connections.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // One of those listed is the folder's own.
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// How many files and sockets may be open.
pub(crate) fn most_files() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok()
}

/// The processor time that all threads together have used.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_can_tell_what_it_uses() {
        assert!(resident_bytes().expect("memory that is resident") > 100_000);
        let (open, most) = (open_files().expect("open files"), most_files().expect("a limit"));
        // Standard input, output and error.
        assert!((3..=most).contains(&open), "{open} of {most}");
        let before = processor_time();
        let mut busy = 0_u64;
        while processor_time() == before {
            busy += 1;
            std::hint::black_box(busy);
        }
    }
}
