//! The processes of a server on this machine: their ids, CPU time and memory (Linux' `/proc`; proc(5)).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::socket::Target;

/// The state of a listening socket in `/proc/net/tcp`.
const TCP_LISTEN: &str = "0A";
/// The flag of a listening socket in `/proc/net/unix` (`__SO_ACCEPTCON`).
const UNIX_LISTEN: u32 = 1 << 16;

/// The processes of a server: those that have its listening socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Processes(pub(super) Vec<u32>);

impl Processes {
    /// The processes that listen on `target`. `None` when there are none, or they are not accessible.
    pub(super) fn listening_on(target: &Target) -> Option<Self> {
        let inodes = match target {
            Target::Tcp(addr) => ["/proc/net/tcp", "/proc/net/tcp6"]
                .iter()
                .filter_map(|table| fs::read_to_string(table).ok())
                .flat_map(|table| tcp_inodes(&table, *addr))
                .collect(),
            Target::Unix(path) => unix_inodes(&fs::read_to_string("/proc/net/unix").ok()?, path),
        };
        let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
        let mut pids: Vec<u32> = fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| holds(*pid, &links))
            .collect();
        pids.sort_unstable();
        (!pids.is_empty()).then_some(Self(pids))
    }

    /// Their CPU time so far, user and system, in clock ticks (10 ms). `None` when one of them has ended.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let ticks =
            self.0.iter().map(|pid| cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?));
        let ticks: u64 = ticks.sum::<Option<u64>>()?;
        Some(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).ok()?)
    }

    /// Their memory in bytes, with shared pages counted proportionally (PSS). `None` when one of them has ended or is
    /// not accessible.
    pub(super) fn memory(&self) -> Option<u64> {
        let kibs =
            self.0.iter().map(|pid| pss_kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?));
        Some(kibs.sum::<Option<u64>>()? * 1024)
    }
}

fn holds(pid: u32, links: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|link| links.iter().any(|wanted| Path::new(wanted) == link))
}

/// The inodes of the sockets that listen on `addr` or on all addresses.
fn tcp_inodes(table: &str, addr: SocketAddr) -> Vec<String> {
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
            continue;
        };
        let listens = listener(local).is_some_and(|(ip, port)| {
            let same = ip.to_canonical() == addr.ip().to_canonical();
            port == addr.port() && (same || ip.is_unspecified())
        });
        if *state == TCP_LISTEN && listens {
            inodes.push((*inode).to_owned());
        }
    }
    inodes
}

/// Parses `0100007F:15BF`: the address in 32-bit words of the machine's byte order, and the port.
fn listener(field: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = field.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some((ip, port))
}

/// The inodes of the sockets that listen at `path`.
fn unix_inodes(table: &str, path: &Path) -> Vec<String> {
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, flags, _, _, inode, at] = fields[..] else { continue };
        let listens = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UNIX_LISTEN != 0);
        if listens && Path::new(at) == path {
            inodes.push(inode.to_owned());
        }
    }
    inodes
}

/// User and system time of `/proc/PID/stat`. The program's name before them may contain anything, but ends at the last
/// parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

fn pss_kib(rollup: &str) -> Option<u64> {
    rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_listener_s_process_is_found() {
        let ours = Some(Processes(vec![std::process::id()]));
        for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let target = Target::Tcp(([127, 0, 0, 1], listener.local_addr().unwrap().port()).into());
            assert_eq!(Processes::listening_on(&target), ours, "{bind}");
        }
        let path = std::env::temp_dir().join(format!("tidings-bench-{}.sock", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let found = Processes::listening_on(&Target::Unix(path.clone()));
        fs::remove_file(path).unwrap();
        assert_eq!(found, ours);
    }

    #[test]
    fn no_process_listens_on_another_port() {
        let target = Target::Tcp(([127, 0, 0, 1], 1).into());
        assert_eq!(Processes::listening_on(&target), None);
    }

    #[test]
    fn a_process_has_cpu_time_and_memory() {
        let ours = Processes(vec![std::process::id()]);
        assert!(ours.cpu().is_some());
        assert!(ours.memory().unwrap() > 100_000);
        assert_eq!(Processes(vec![u32::MAX]).memory(), None);
    }

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 700 33 0 0";
        assert_eq!(cpu_ticks(stat), Some(733));
    }

    #[test]
    fn addresses_of_both_families_are_parsed() {
        let v4 = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(listener(&format!("{v4:08X}:15BF")), Some(([127, 0, 0, 1].into(), 5567)));
        let last = u32::from_ne_bytes([0, 0, 0, 1]);
        let v6 = format!("{:024X}{last:08X}:0050", 0);
        assert_eq!(listener(&v6), Some((Ipv6Addr::LOCALHOST.into(), 80)));
        assert_eq!(listener("xyz:0050"), None);
    }
}
