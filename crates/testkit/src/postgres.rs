//! A real PostgreSQL server for one test.

use std::fs::{File, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::{GLANCE, PATIENCE, free_port};

/// The user and database of the server.
const NAME: &str = "postgres";

/// A PostgreSQL server on a free port of the loopback address, with the user and the database `postgres`, without a password;
/// killed on drop.
///
/// It can be killed and started again on the same port with its data.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    programs: PathBuf,
    dir: TempDir,
    child: Option<Child>,
}

impl PostgresServer {
    /// Creates a database and starts a server.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, or does not start.
    pub fn start() -> Self {
        let dir = TempDir::with_prefix("tidings-postgres-").expect("a temporary directory");
        // PostgreSQL refuses to run as root.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("permissions");
        let mut server = Self { port: free_port(), programs: programs(), dir, child: None };
        let data = server.data();
        let created = server
            .command("initdb")
            .args(["--auth=trust", "--no-sync", "--no-instructions", "--locale=C.UTF-8", "-U", NAME, "-D"])
            .arg(data)
            .output()
            .expect("initdb");
        assert!(created.status.success(), "initdb: {}", String::from_utf8_lossy(&created.stderr));
        server.restart();
        server
    }

    /// Its address with user and database: `postgresql://postgres@127.0.0.1:5432/postgres`.
    pub fn url(&self) -> String {
        format!("postgresql://{NAME}@127.0.0.1:{}/{NAME}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Offers TLS with this certificate and key in PEM, from now on.
    ///
    /// # Panics
    /// When it does not restart.
    pub fn offer_tls(&mut self, certificate: &str, key: &str) {
        let owner = std::fs::metadata(self.data()).expect("its data").uid();
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.data().join(name);
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("permissions");
            chown(&path, Some(owner), None).expect("an owner");
        }
        self.query("ALTER SYSTEM SET ssl = on");
        self.restart();
    }

    /// Kills it at once, like a crash. No effect if it is not running.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has already ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it on its port with its data, and waits until it responds. Kills it first if it is running.
    ///
    /// # Panics
    /// When it does not start; the message contains its log.
    pub fn restart(&mut self) {
        self.kill();
        let end = Instant::now() + PATIENCE;
        self.spawn();
        while !self.psql("SELECT 1").status.success() {
            assert!(Instant::now() < end, "PostgreSQL did not start on port {}:\n{}", self.port, self.log());
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() {
                // Processes of the killed server are still ending.
                self.spawn();
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Runs statements, and returns their rows as lines, with `|` between the columns.
    ///
    /// # Panics
    /// When they fail.
    pub fn query(&self, sql: &str) -> String {
        let output = self.psql(sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs statements in one transaction. Returns whether the server has confirmed that it is committed.
    pub fn commits(&self, sql: &str) -> bool {
        self.psql(sql).status.success()
    }

    fn psql(&self, sql: &str) -> Output {
        Command::new(self.programs.join("psql"))
            .args([
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                sql,
            ])
            .arg(self.url())
            .env("PGCONNECT_TIMEOUT", "5")
            .stdin(Stdio::null())
            .output()
            .expect("psql")
    }

    fn spawn(&mut self) {
        let log = File::create(self.dir.path().join("log")).expect("a log file");
        let data = self.data();
        let child = self
            .command("postgres")
            .args(["-p", &self.port.to_string(), "-h", &Ipv4Addr::LOCALHOST.to_string()])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-D"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("postgres");
        self.child = Some(child);
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A command of the server, as the user `postgres` if this process is that of root.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", NAME, "--regid", NAME, "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.dir.path());
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder with the programs of the newest version that Debian has installed, or none for those on the `PATH`.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter_map(|entry| Some((version(&entry.path())?, entry.path()))).max();
    newest.map(|(_, path)| path.join("bin")).unwrap_or_default()
}
