//! What the operating system says about this process. Where it has no `/proc`, less is known.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

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
