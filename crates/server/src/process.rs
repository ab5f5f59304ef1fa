//! Values of the operating system about this process. On systems without `/proc` some are missing.

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
    /// Metrics of a server that was just started.
    pub(crate) fn new(lifecycle: Arc<Lifecycle>) -> Self {
        let began = SystemTime::now().checked_sub(lifecycle.uptime()).unwrap_or(UNIX_EPOCH);
        Self { lifecycle, began: began.duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

impl Collect for ProcessMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.info("tidings_build", "The version of the program", ("version", env!("CARGO_PKG_VERSION")))?;
        let uptime = self.lifecycle.uptime().as_secs_f64();
        out.gauge("tidings_uptime", SECONDS, "Time since the server was started", uptime)?;
        let cpu = cpu_time().as_secs_f64();
        out.counter("process_cpu", SECONDS, "Processor time used, of user and system", cpu)?;
        let began = self.began.as_secs_f64();
        out.gauge("process_start_time", SECONDS, "When the server was started, since the Unix epoch", began)?;
        if let Some(bytes) = resident_bytes() {
            out.gauge("process_resident_memory", BYTES, "Memory in use", bytes)?;
        }
        if let Some(open) = open_files() {
            out.gauge("process_open_fds", None, "Open files and sockets", open)?;
        }
        if let Some(max) = max_files() {
            out.gauge("process_max_fds", None, "Most files and sockets that the process may have open", max)?;
        }
        Ok(())
    }
}

/// Resident memory, in bytes (`VmRSS`, proc_pid_status(5)).
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Open files and sockets.
pub(crate) fn open_files() -> Option<u64> {
    // Since Linux 6.2 the folder's size is the number of files, so that it need not be listed with every connection.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // The list includes the descriptor of the folder itself.
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// Most files and sockets that the process may have open (`RLIMIT_NOFILE`, soft limit).
pub(crate) fn max_files() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok()
}

/// The CPU time of all threads together.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_files_and_cpu_time_of_the_process_are_measured() {
        assert!(resident_bytes().expect("memory that is resident") > 100_000);
        let (open, max) = (open_files().expect("open files"), max_files().expect("a limit"));
        // Standard input, output and error.
        assert!((3..=max).contains(&open), "{open} of {max}");
        let before = cpu_time();
        let mut busy = 0_u64;
        while cpu_time() == before {
            busy += 1;
            std::hint::black_box(busy);
        }
    }
}
