# The commands for developers and CI; `make help` lists them.
# On a fresh Debian, `make` and `make run` need only Rust and a C compiler; `make test` installs the other tools.

CARGO ?= cargo
TOOLS := $(CURDIR)/.test-tools
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))
export TEST_TOOLS := $(TOOLS)

.PHONY: all help build run test test-random test-slow test-meeting test-tools lint lint-deploy packages docs fmt bench bench-guard bench-memory bench-tables autobahn h2spec fuzz clean

all: build

help: ## lists the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## the binary, target/release/tidings
	$(CARGO) build --release --locked

run: ## the server with its defaults: lines on 127.0.0.1:5567, HTTP on 127.0.0.1:8000
	$(CARGO) run --release --locked -- serve

# Most tests wait for servers and clients, so more of them than cores run at a time. The property tests get the same inputs
# in each run, so that a failure is due to the change; `make test-random` searches for new inputs.
test: test-tools ## every test; installs the test tools first
	PROPTEST_RNG_SEED=$${PROPTEST_RNG_SEED:-1} RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} $(CARGO) test --workspace --locked
	TIDINGS_BUILT=1 tests/browser/run.sh

RANDOM_CRATES := auth broker channel-rules fossil map-state mqtt mqtt-state pusher session shared-poll stomp table table-group \
	table-live table-value tags-filter webhooks websocket wire
ROUNDS ?= 10
test-random: ## the tests of the crates with property tests, ROUNDS times with new inputs; prints the input of a failure
	@for round in $$(seq $(ROUNDS)); do $(CARGO) test --locked --quiet $(RANDOM_CRATES:%=-p tidings-%) || exit 1; done

test-slow: test-tools ## the tests that take minutes and gigabytes of disk
	$(CARGO) test --workspace --locked --test slow -- --ignored

test-meeting: test-tools build ## three browsers over a file of 1 GB; apart from test-slow, because it needs the release build
	TIDINGS_MEETING_MB=1000 TIDINGS_BUILT=1 TIDINGS_PROFILE=release tests/browser/run.sh tests/browser/meeting.test.mjs

test-tools: ## redis-server, nginx, haproxy, caddy, chromium, Ruby, Go, moto, pyarrow, openpyxl, duckdb, and the clients of Python and Node, if missing
	scripts/test-tools.sh "$(TOOLS)"

lint: test-tools ## formatting, clippy, types of the page, licences and duplicates, documentation
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	"$(TOOLS)/browser/node_modules/.bin/tsc" --noEmit --project web
	scripts/deny.sh "$(TOOLS)"
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items --locked --quiet

lint-deploy: ## deploy/: chart, alerts, dashboard, Containerfile, and the packages on a Debian that runs systemd (needs Go, root)
	CARGO="$(CARGO)" scripts/lint-deploy.sh "$(TOOLS)" $(BINARY)

packages: ## packages for Debian and RPM, in target/packages (BINARY=FILE: of this binary)
	CARGO="$(CARGO)" scripts/packages.sh "$(TOOLS)" $(BINARY)

docs: ## the book, target/book/index.html; installs mdBook first where it is missing
	scripts/docs.sh "$(TOOLS)"

fmt: ## formats everything
	$(CARGO) fmt --all

bench: ## micro-benchmarks of the codecs and the fan-out, then a run of `tidings bench` against a server
	$(CARGO) bench --workspace --locked --bench codecs --bench sessions
	scripts/bench.sh

bench-guard: build ## instructions for each publish, subscribe and handshake, against the committed counts (needs valgrind)
	scripts/bench-guard.py

bench-memory: build ## memory of idle connections, by protocol (about 5 minutes)
	scripts/bench-memory.py

bench-tables: ## tables on a file of 1 GB: the engine, wc, and DuckDB and qsv if installed, then the program with 1,000 viewers
	scripts/bench-tables.py

autobahn: ## Autobahn's WebSocket cases against an echo and the program (needs Python 2.7)
	scripts/autobahn.py "$(TOOLS)/autobahn"

h2spec: build ## h2spec's cases of HTTP/2 against the program, with and without TLS (needs Go, Python)
	scripts/h2spec.sh "$(TOOLS)" target/release/tidings

fuzz: ## each fuzz target for FUZZ_SECONDS (needs nightly and cargo-fuzz)
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/corpus/$$target && \
		$(CARGO) +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

clean: ## removes build results and installed test tools
	$(CARGO) clean
	rm -rf "$(TOOLS)"
