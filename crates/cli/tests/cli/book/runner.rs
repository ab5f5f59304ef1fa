//! Runs the blocks of one page; see the table in the parent module.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tempfile::TempDir;
use tidings_testkit::{
    LineClient, PATIENCE, RedisServer, free_port, get_http, metric, test_tool, wait_until,
};

use super::compare::{contains, same, values};
use super::page::{Block, Directive, blocks};
use super::text;
use crate::tool::{Done, TIDINGS, Tool};

/// Runs the blocks of a page from top to bottom.
pub(super) fn run(page: &str) {
    eprintln!("{page}");
    let blocks = blocks(&text(page));
    let mut runner = Runner::new(page);
    let mut blocks = blocks.iter().peekable();
    while let Some(block) = blocks.next() {
        let output = blocks.next_if(|next| next.is_output());
        runner.block(block, output);
    }
}

/// A page that runs: its folder, its servers and its processes.
struct Runner {
    page: String,
    /// The place of the current block, for messages.
    at: String,
    // Processes end before their folder is removed.
    background: BTreeMap<String, Process>,
    server: Option<Server>,
    redis: Option<RedisServer>,
    /// The port of a program of the page, in place of 3000.
    port: u16,
    /// Files as the page has them, written again when an address changes.
    files: BTreeMap<String, String>,
    folder: TempDir,
}

/// A process and everything that it has started; killed on drop.
struct Process(Tool);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill_group();
    }
}

/// The server of a page.
struct Server {
    _process: Process,
    tcp: String,
    http: String,
}

impl Runner {
    fn new(page: &str) -> Self {
        let folder = TempDir::with_prefix("tidings-book-").expect("a folder");
        let modules = folder.path().join("node_modules");
        fs::create_dir(&modules).expect("a folder");
        for from in ["sdk-node", "node"] {
            let packages = fs::read_dir(test_tool(from).join("node_modules")).expect("make test-tools");
            for package in packages.map(|package| package.expect("a package")) {
                // Of two packages of one name the first one counts.
                let _ = symlink(package.path(), modules.join(package.file_name()));
            }
        }
        fs::create_dir(folder.path().join("bin")).expect("a folder");
        Self {
            page: page.to_owned(),
            at: page.to_owned(),
            background: BTreeMap::new(),
            server: None,
            redis: None,
            port: free_port(),
            files: BTreeMap::new(),
            folder,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn block(&mut self, block: &Block, output: Option<&Block>) {
        self.at = format!("{}:{}", self.page, block.line);
        let language = block.language.as_str();
        match &block.directive {
            Some(Directive::NotRun) => (),
            Some(Directive::File(name)) => self.file(name, &block.text),
            Some(Directive::Server) => {
                assert_eq!(language, "toml", "{}", self.at);
                self.file("tidings.toml", &block.text);
                self.serve("tidings serve --config tidings.toml");
            }
            Some(Directive::Background { name, until }) => self.start(name, until.as_deref(), &block.text),
            Some(Directive::Output(name)) => self.expect_in_background(name, &block.text),
            Some(Directive::Lines) => self.talk(&block.text),
            Some(Directive::Repeat) => {
                let output = output.unwrap_or_else(|| panic!("{}: no output", self.at));
                wait_until(PATIENCE, &format!("{}: the output {}", self.at, output.text), || {
                    let done = self.finish(&block.text);
                    done.code == Some(0) && same(&output.language, &output.text, done.text())
                });
            }
            None => self.plain(language, &block.text, output),
        }
    }

    /// A block without a directive.
    fn plain(&mut self, language: &str, block: &str, output: Option<&Block>) {
        let script = match language {
            "sh" if is_serve(block) => return self.serve(block),
            "sh" => block.to_owned(),
            "python" | "js" | "ruby" | "go" => {
                let (name, program) = match language {
                    "js" => ("block.mjs", "node"),
                    "ruby" => ("block.rb", "ruby"),
                    "go" => ("block.go", "go run"),
                    _ => ("block.py", "python3"),
                };
                self.file(name, block);
                format!("{program} {name}")
            }
            "toml" => return self.file("checked.toml", block),
            "json" => {
                assert!(values(block).is_ok(), "{}: invalid JSON", self.at);
                return;
            }
            "text" => return,
            other => panic!("{}: a block in {other:?} needs a comment such as `not run: REASON`", self.at),
        };
        let done = self.finish(&script);
        assert_eq!(done.code, Some(0), "{}\n{done:#?}", self.at);
        if let Some(output) = output {
            assert!(
                same(&output.language, &output.text, done.text()),
                "{}\n--- shown ---\n{}\n--- printed ---\n{}\n{}",
                self.at,
                output.text,
                done.text(),
                done.stderr
            );
        }
    }

    /// Writes a file; one of options must be valid.
    fn file(&mut self, name: &str, block: &str) {
        if !name.ends_with(".toml") {
            self.need_server(block);
        }
        self.files.insert(name.to_owned(), block.to_owned());
        let written = self.addressed(block);
        fs::write(self.path().join(name), written + "\n").expect("a file");
        if name.ends_with(".toml") {
            let done = self.finish(&format!("tidings config check {name}"));
            assert_eq!(done.code, Some(0), "{}: {done:#?}", self.at);
        }
    }

    /// Starts the server of the page, in place of one that runs.
    fn serve(&mut self, block: &str) {
        self.server = None;
        let block = block.replace(":8000", ":0").replace(":5567", ":0");
        let script = self.addressed(&block);
        let mut command = self.shell(&script);
        for (name, address) in [("TIDINGS_TCP", "127.0.0.1:0"), ("TIDINGS_HTTP", "127.0.0.1:0")] {
            command.env(name, address);
        }
        command.env("XDG_DATA_HOME", self.path().join("data")).env_remove("STATE_DIRECTORY");
        let process = Process(Tool::start(command));
        wait_until(PATIENCE, &format!("{}: the server", self.at), || {
            assert!(!process.0.stderr().contains("tidings: "), "{}: {}", self.at, process.0.stderr());
            process.0.stdout().lines().any(|line| line == "ready")
        });
        let listener = |kind: &str| {
            let out = process.0.stdout();
            out.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or_default().to_owned()
        };
        let http = listener("http ");
        let http = http.split("://").last().unwrap_or_default().trim_end_matches('/').to_owned();
        self.server = Some(Server { tcp: listener("tcp "), http, _process: process });
        self.write_wrapper();
        for (name, block) in self.files.clone() {
            fs::write(self.path().join(name), self.addressed(&block) + "\n").expect("a file");
        }
    }

    /// Writes a `tidings` that calls the built program with the addresses of the server as defaults.
    fn write_wrapper(&self) {
        let Some(Server { tcp, http, .. }) = &self.server else { return };
        let wrapper = format!(
            "#!/bin/sh\ncase $1 in\nconnect) [ $# -gt 1 ] || set -- connect {tcp};;\nshare) : \"${{TIDINGS_SERVER:=http://{http}}}\";;\n\
             *) : \"${{TIDINGS_SERVER:={tcp}}}\";;\nesac\nexport TIDINGS_SERVER\nexec {TIDINGS} \"$@\"\n"
        );
        let path = self.path().join("bin/tidings");
        fs::write(&path, wrapper).expect("a script");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a file of this test");
    }

    /// A text with the addresses of the page's servers instead of the default ones.
    fn addressed(&mut self, block: &str) -> String {
        let mut text = block.to_owned();
        for (host, separator) in [("localhost", ":"), ("127.0.0.1", ":"), ("\"127.0.0.1\"", ", ")] {
            let own = format!("{}{separator}{}", host.replace("localhost", "127.0.0.1"), self.port);
            text = text.replace(&format!("{host}{separator}3000"), &own);
        }
        if text.contains("redis-cli ") || text.contains(":6379") {
            let redis = self.redis.get_or_insert_with(RedisServer::start);
            let (port, address) = (redis.port(), redis.addr().to_string());
            // The port that the page names, as the last one, counts; the output is that of a terminal.
            text = text.replace("redis-cli ", &format!("redis-cli --no-raw -p {port} "));
            text = text.replace("127.0.0.1:6379", &address).replace("localhost:6379", &address);
        }
        let Some(Server { tcp, http, .. }) = &self.server else { return text };
        let port = tcp.rsplit(':').next().unwrap_or_default();
        for host in ["localhost", "127.0.0.1"] {
            text = text
                .replace(&format!("{host}:8000"), http)
                .replace(&format!("{host}:5567"), tcp)
                .replace(&format!("{host} 5567"), &format!("127.0.0.1 {port}"))
                .replace(&format!("\"{host}\", 5567"), &format!("\"127.0.0.1\", {port}"));
        }
        text.replace("-p 5567", &format!("-p {port}"))
    }

    /// A shell in the page's folder, with the variables that earlier blocks have exported.
    fn shell(&self, script: &str) -> Command {
        let script = script.replace("curl ", "curl -sS --max-time 60 ");
        let built = Path::new(TIDINGS).parent().expect("a folder").to_owned();
        let first = [self.path().join("bin"), built, test_tool("python").join("bin")];
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(first.into_iter().chain(env::split_paths(&path))).expect("a path");
        let mut command = Command::new("sh");
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDINGS_")) {
            command.env_remove(name);
        }
        let kept = "if [ -f exported ]; then . ./exported; fi";
        let keep = "export -p | grep -E '^export (TIDINGS|TOKEN|KEY)' > exported || :";
        command.args(["-ec", &format!("{kept}\n{script}\n{keep}")]);
        command.current_dir(self.path()).env("PATH", path).process_group(0);
        command
    }

    /// Starts the server with its defaults when a block needs one and the page has started none.
    fn need_server(&mut self, block: &str) {
        let needs = [
            "localhost",
            "127.0.0.1",
            "tidings subscribe",
            "tidings publish",
            "tidings share",
            "tidings connect",
        ];
        if self.server.is_none() && needs.iter().any(|word| block.contains(word)) {
            self.serve("tidings serve");
        }
    }

    /// Runs a block to its end.
    fn finish(&mut self, block: &str) -> Done {
        self.need_server(block);
        let script = self.addressed(block);
        let mut tool = Tool::start(self.shell(&script));
        drop(tool.stdin.take());
        tool.finish()
    }

    /// Starts a block that keeps running.
    fn start(&mut self, name: &str, until: Option<&str>, block: &str) {
        self.need_server(block);
        let script = self.addressed(block);
        let before = until.is_none().then(|| self.subscriptions());
        let process = Process(Tool::start(self.shell(&script)));
        wait_until(PATIENCE, &format!("{}: the block in the background", self.at), || match until {
            Some(text) => process.0.stdout().contains(text),
            None => Some(self.subscriptions()) > before,
        });
        self.background.insert(name.to_owned(), process);
    }

    fn subscriptions(&self) -> u64 {
        let server = self.server.as_ref().unwrap_or_else(|| panic!("{}: no server", self.at));
        metric(server.http.parse().expect("an address"), "tidings_subscriptions")
    }

    fn expect_in_background(&self, name: &str, shown: &str) {
        let process = self.background.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.at));
        wait_until(PATIENCE, &format!("{}: the output of {name}: {shown}", self.at), || {
            contains(shown, &process.0.stdout())
        });
    }

    /// Holds a conversation on the line port.
    fn talk(&mut self, lines: &str) {
        self.need_server("localhost");
        let server = self.server.as_ref().expect("a server");
        // A reader types after the broker is connected.
        let http = server.http.parse().expect("an address");
        wait_until(PATIENCE, &format!("{}: the broker", self.at), || get_http(http, "/ready").status != 503);
        let mut client = LineClient::connect(&*server.tcp);
        for line in lines.lines() {
            match line.strip_prefix("> ") {
                Some(sent) => client.send(sent),
                None => {
                    let received = client.line();
                    assert!(same("text", line, &received), "{}: {line:?}, not {received:?}", self.at);
                }
            }
        }
    }
}

/// Whether a block starts a server: `tidings serve`, after variables and comments.
fn is_serve(block: &str) -> bool {
    let command = block.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    let mut words = command.split_whitespace().skip_while(|word| word.contains('='));
    words.next() == Some("tidings") && words.next() == Some("serve")
}
