"""What the examples share: starts tidings, and serves the page of an example. Standard library alone."""

import argparse, base64, hashlib, hmac, json, os, shutil, signal, subprocess, sys, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}


def options(description):
    """The command line of an example. Port 0 picks a free port. SIGTERM ends the example like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=3000, help="port of the page (default 3000)")
    parser.add_argument("--http", default="127.0.0.1:8000", help="HTTP port of tidings (default 127.0.0.1:8000)")
    parser.add_argument("--tcp", default="127.0.0.1:5567", help="line port of tidings (default 127.0.0.1:5567)")
    parser.add_argument("--broker", default="memory", help="broker of tidings (default memory)")
    return parser.parse_args()


def binary():
    """The program: $TIDINGS_BIN, the one built in this repository, or the one on the PATH."""
    built = Path(__file__).parent.parent / "target/release/tidings"
    found = os.environ.get("TIDINGS_BIN") or (str(built) if built.exists() else shutil.which("tidings"))
    return found or sys.exit("tidings is not installed: run `make`, or set TIDINGS_BIN")


class Tidings:
    """A running server. `http` and `tcp` are its addresses."""

    def __init__(self, arguments, config, secrets=(), origin=None):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
        command = [binary(), "serve", "--config", str(config), "--data-dir", "off", "--broker", arguments.broker]
        command += ["--http", arguments.http, "--tcp", arguments.tcp]
        if origin:
            command += ["--set", f"client.allowed_origins={origin}"]
        # In a session of its own: Ctrl-C reaches the example alone, which then stops the server.
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment | dict(secrets), start_new_session=True)
        for line in self.process.stdout:
            kind, _, address = line.strip().partition(" ")
            if kind == "ready":
                return
            setattr(self, kind, address.rstrip("/"))
        sys.exit("tidings did not start")

    def publish(self, key, channel, data):
        """Publishes by the server API; a refused publication is an exception."""
        body = json.dumps({"channel": channel, "data": data}).encode()
        request = urllib.request.Request(f"{self.http}/api/publish", body, {"X-API-Key": key})
        with urllib.request.urlopen(request, timeout=5) as response:
            answer = json.load(response)
        if "error" in answer:
            raise RuntimeError(answer["error"])


def stop(*processes):
    """Ends processes. A second signal does not interrupt this; tidings ends within its `shutdown.timeout`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def token(user, key, seconds=3600):
    """A connection token for a user (JWT, HS256)."""
    part = lambda value: base64.urlsafe_b64encode(value).rstrip(b"=")
    claims = {"sub": user, "exp": int(time.time()) + seconds}
    text = b".".join(part(json.dumps(value).encode()) for value in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (text + b"." + part(hmac.digest(key.encode(), text, hashlib.sha256))).decode()


class Page(ThreadingHTTPServer):
    """Serves the files of a folder, and answers POST requests with the functions in `posts`."""

    daemon_threads = True

    def __init__(self, port, folder, more=(), posts=()):
        files = {f"/{path.name}": path for path in Path(folder).iterdir() if path.suffix in TYPES}
        self.files = files | {"/": Path(folder) / "index.html"} | dict(more)
        self.posts, self.tidings = dict(posts), ""
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def run(self, tidings, note=""):
        """Serves until it is interrupted, then stops tidings."""
        self.tidings = tidings.http
        print(f"open {self.url}/{note}", flush=True)
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            stop(tidings.process)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.server.files.get(self.path)
        if path is None:
            return self.answer(404, "text/plain", b"not found")
        # The page learns the address of tidings from an attribute of its body.
        body = path.read_bytes()
        if path.suffix == ".html":
            body = body.replace(b"{{tidings}}", self.server.tidings.encode())
        self.answer(200, TYPES[path.suffix], body)

    def do_POST(self):
        function = self.server.posts.get(self.path)
        length = int(self.headers.get("Content-Length", 0))
        # A page of another site cannot send this type without permission.
        if function is None or length > 4096 or self.headers.get("Content-Type") != "application/json":
            self.close_connection = True
            return self.answer(400, "text/plain", b"bad request")
        try:
            answer = function(json.loads(self.rfile.read(length)))
        except (ValueError, TypeError, KeyError) as error:
            return self.answer(400, "text/plain", str(error).encode())
        self.answer(200, "application/json", json.dumps(answer).encode())

    def answer(self, status, kind, body):
        tidings = self.server.tidings
        sources = f"'self' {tidings} {tidings.replace('http', 'ws', 1)}"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", f"default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src {sources}; "
                         "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
