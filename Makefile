# Recipes of the project. Everything they fetch or build is kept under BERTH_CACHE, not in the clone.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -eu -c

export BERTH_CACHE ?= $(HOME)/.cache/berth
export CARGO_TARGET_DIR ?= $(BERTH_CACHE)/target

# Where rustup has the pinned compiler under its channel's name only, that one is used and nothing is downloaded.
PINNED := $(shell sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
ifeq ($(RUSTUP_TOOLCHAIN)$(shell rustup toolchain list 2>/dev/null | grep -o '^$(PINNED)-'),)
ifeq ($(word 2,$(shell rustc +stable --version 2>/dev/null)),$(PINNED))
export RUSTUP_TOOLCHAIN := stable
endif
endif

PREFIX ?= /usr/local
CARGO_DENY := 0.20.2
TOOLS := $(BERTH_CACHE)/tools
# Arguments for pytest, as in `make test PYTEST="-k grpc"`.
PYTEST ?=

# Seconds of the soak, as in `make soak SOAK_SECONDS=36000`.
SOAK_SECONDS ?= 600

# Inputs of each target, and which: as in `make fuzz RUNS=10000000 TARGETS="grpc onnx"`.
RUNS ?= 100000
TARGETS ?=

.PHONY: help up test soak fuzz lint format deny install bench bench-serving bench-batching bench-scaling bench-planner bench-starts bench-gateway conformance-peers contracts clean tools

help: ## List the recipes
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tools: ## Check that compiler, Python and the rest are there, and install what Debian has
	@xtask/tools.sh

up: tools ## Build and start Berth, deploy the example, ask it; Ctrl-C drains and stops
	@echo "up: building Berth (some minutes the first time)"
	cargo build --locked --release --package berth
	cargo xtask setup
	exec python3 examples/up.py "$(CARGO_TARGET_DIR)/release/berth"

test: tools ## Run every test: of the crates, then of the whole platform with real clients
	@echo "test: building (some minutes the first time)"
	cargo xtask setup
	cargo build --locked --workspace --all-targets
	cargo test --locked --workspace
	python3 tests/run.py $(PYTEST)

soak: tools ## Mixed load with clients that break off for SOAK_SECONDS, then counters must add up; prints memory
	@echo "soak: building (some minutes the first time)"
	cargo xtask setup
	cargo build --locked --release --package berth
	BERTH_BIN="$(CARGO_TARGET_DIR)/release/berth" BERTH_SOAK_SECONDS=$(SOAK_SECONDS) python3 tests/run.py -q -s test_soak.py

fuzz: tools ## Run libFuzzer over every reader of a stranger's bytes; RUNS inputs each
	@tests/fuzz/run.sh $(RUNS) $(TARGETS)

lint: tools ## Check format, lints, the house rules and the licences of dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo xtask tidy
	$(MAKE) --no-print-directory deny

format: ## Format the code
	cargo fmt --all

deny: ## Check licences, sources and bans of dependencies
	@if [ ! -x "$(TOOLS)/bin/cargo-deny" ] || [ "$$("$(TOOLS)/bin/cargo-deny" --version)" != "cargo-deny $(CARGO_DENY)" ]; then
		echo "deny: building cargo-deny $(CARGO_DENY) (a few minutes, once)"
		env -u CARGO_TARGET_DIR cargo install cargo-deny --version $(CARGO_DENY) --locked --root "$(TOOLS)"
	fi
	"$(TOOLS)/bin/cargo-deny" --log-level error --locked check --hide-inclusion-graph bans licenses sources

install: tools ## Build for installation and install under PREFIX (default /usr/local)
	@echo "install: building Berth for installation (several minutes)"
	cargo build --locked --profile dist --package berth
	berth="$(CARGO_TARGET_DIR)/dist/berth" to="$(DESTDIR)$(PREFIX)"
	cargo xtask setup --into "$$to/lib/berth"
	install -D -m 755 "$$berth" "$$to/bin/berth"
	for each in bash:bash-completion/completions/berth zsh:zsh/site-functions/_berth fish:fish/vendor_completions.d/berth.fish; do
		mkdir -p "$$(dirname "$$to/share/$${each#*:}")"
		"$$berth" completions "$${each%%:*}" >"$$to/share/$${each#*:}"
	done
	echo "installed $$to/bin/berth"

bench: bench-serving bench-batching bench-scaling bench-planner bench-starts bench-gateway ## Run every benchmark

bench-serving: tools ## Measure serving against Triton and MLServer; writes docs/benchmarks/serving.md
	@cargo build --locked --profile dist --package berth --package load
	cargo xtask setup
	python=$$(python3 tests/setup_env.py | tee /dev/stderr | tail -n 1)
	"$$python" tests/bench/serving.py

bench-batching: tools ## Measure MiniLM with 32 clients against Triton; writes docs/benchmarks/batching.md
	@cargo build --locked --profile dist --package berth --package load
	cargo xtask setup
	python=$$(python3 tests/setup_env.py | tee /dev/stderr | tail -n 1)
	"$$python" tests/bench/batching.py

# The data are public and not part of the clone; tests/bench/scaling.py names the files to put here.
export BERTH_BENCH_DATA ?= $(BERTH_CACHE)/bench-data

bench-scaling: tools ## Simulate Berth's scaling beside three rivals; writes docs/benchmarks/scaling.md
	@cargo build --locked --release --package berth
	cargo xtask setup
	python=$$(python3 tests/setup_env.py | tee /dev/stderr | tail -n 1)
	"$$python" tests/bench/scaling.py

bench-planner: tools ## Measure how long a plan takes; writes docs/benchmarks/planner.md
	@python=$$(python3 tests/setup_env.py | tee /dev/stderr | tail -n 1)
	"$$python" tests/bench/planner.py

bench-starts: tools ## Measure starts from zero with and without a warm pool; writes docs/benchmarks/starts.md
	@cargo build --locked --profile dist --package berth
	cargo xtask setup
	python=$$(python3 tests/setup_env.py | tee /dev/stderr | tail -n 1)
	"$$python" tests/bench/starts.py

bench-gateway: tools ## Measure the gateway alone beside Envoy; writes docs/benchmarks/gateway.md
	@cargo build --locked --profile dist --package berth --package load
	cargo xtask setup
	python=$$(python3 tests/setup_env.py | tee /dev/stderr | tail -n 1)
	"$$python" tests/bench/gateway.py

conformance-peers: tools ## Run the conformance suite against Berth, Triton and MLServer; writes docs/conformance.md
	@cargo build --locked --release --package berth
	cargo xtask setup
	python=$$(python3 tests/setup_env.py | tee /dev/stderr | tail -n 1)
	"$$python" tests/bench/conformance.py --berth "$(CARGO_TARGET_DIR)/release/berth"

contracts: ## Write the checked-in contracts anew after a change that is meant
	BERTH_CONTRACTS=write cargo test --locked --package berth contract

clean: ## Remove what was built; downloads and data stay
	cargo clean
