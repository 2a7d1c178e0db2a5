# What to type. `make` alone lists the targets.
#
# Everything is built in one profile (release): what is tested is what runs. ARGS is passed on,
# for example `make run ARGS="--help"`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ARGS ?=

# The suite's helpers: promtool in target/tools, the second client's Python in .venv.
TEST_PATH := $(CURDIR)/target/tools:$(CURDIR)/.venv/bin

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 - \2/p' Makefile

.PHONY: setup
setup: ## install what building and running need, saying what and why
	@scripts/setup.sh build

.PHONY: setup-test
setup-test: ## install what the whole test suite needs as well
	@scripts/setup.sh test

.PHONY: run
run: setup ## build the server and start a world on its defaults (ARGS go to `ecumene serve`)
	@cargo run --release -p server --bin ecumene -- serve $(ARGS)

.PHONY: viewer
viewer: setup ## build the viewer and start it (ARGS go to `ecumene-viewer`)
	@cargo run --release -p client-viewer --bin ecumene-viewer -- $(ARGS)

.PHONY: test
test: setup-test ## run the whole test suite, with its own set-up
	@PATH="$(TEST_PATH):$$PATH" cargo test --release --workspace $(ARGS)

.PHONY: check
check: setup ## format, lints and the tidy test: quick enough before every commit
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo test --release -p tests --test tidy

.PHONY: requirements
requirements: ## write docs/requirements.md anew from docs/requirements.toml
	ECUMENE_BLESS=1 cargo test --release -p tests --test tidy requirements_page

.PHONY: docs
docs: setup ## build the API documentation, with warnings as errors
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

.PHONY: packaging
packaging: setup-test ## check the alert rules, the systemd unit and the scripts
	@PATH="$(TEST_PATH):$$PATH" scripts/check_packaging.sh

.PHONY: bench
bench: setup ## time the hot path on this machine (ARGS go to the benchmarks)
	@cargo bench -p protocol --bench codec -- $(ARGS)
	@cargo bench -p server --bench shard -- $(ARGS)

.PHONY: soak
soak: setup ## load a server with many users (ARGS go to `ecumene-soak`)
	@cargo run --release --quiet -p tests --bin ecumene-soak -- $(ARGS)

.PHONY: sim
sim: setup ## simulate worlds with faults, from seeds (ARGS go to `ecumene-sim`)
	@cargo run --release --quiet -p tests --bin ecumene-sim -- $(ARGS)

.PHONY: bare-test
bare-test: ## prove the set-up in a bare Debian root (needs root; builds cold)
	@scripts/bare_test.sh

.PHONY: clean
clean: ## remove what was built; worlds are kept
	cargo clean
	rm -rf .venv
