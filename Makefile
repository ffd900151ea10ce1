# The commands of this project. `make run` and `make test` need a Rust toolchain, cc, make and git; the rest of what
# tests need they install themselves under target/parts.

CARGO_BUILD_JOBS ?= 2
export CARGO_BUILD_JOBS

.DEFAULT_GOAL := help
.PHONY: help run kafka demo build check test conformance laws soak chaos fuzz fuzz-stable bench bench-peers eval bench-engines eval-labels \
	eval-adversary eval-budgets

help: ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: build ## Build, and start the gateway with the project's own demo server behind it
	./target/release/undercurrent serve --data ./data \
		--upstream demo="./target/release/undercurrent-demo server --stdio"

kafka: ## Run an Apache Kafka broker on 127.0.0.1:9092 in the foreground, to try the log on Kafka
	tests/parts/install.sh kafka
	tests/parts/kafka/broker.sh

demo: build ## Drive it live with a population of agents for a minute or two, and show what was learned and flagged
	./target/release/undercurrent-demo live --undercurrent ./target/release/undercurrent

build: ## Build everything, optimised
	cargo build --workspace --exclude undercurrent-conformance-server --release

check: ## Format, lints and documentation: seconds when warm
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

test: ## Install what the tests need, and pass them all
	tests/parts/install.sh
	cargo build --workspace
	cargo test --workspace
	target/parts/python/bin/python -m unittest discover -s tests/eval
	target/parts/python/bin/python -m unittest discover -s tests/deploy

conformance: ## The official MCP conformance suite, direct and through the gateway (a part of `make test`)
	tests/parts/install.sh
	cargo build --workspace
	cargo test --workspace --test conformance -- --nocapture

laws: TIMES ?= 20
laws: ## The laws of learning on TIMES=20 times as much random traffic as in `make test`
	LAWS_TIMES=$(TIMES) cargo test --workspace --test laws

soak: SECONDS ?= 600
soak: ## Clients come and go and their server fails for SECONDS=600; idle streams and ended sessions (release)
	UNDERCURRENT_SOAK_SECONDS=$(SECONDS) cargo test --workspace --release --test real_parts -- \
		soak:: idle:: --nocapture --test-threads 1

chaos: KILLS ?= 200
chaos: AWAY ?= 60
chaos: ## KILLS=200 at named points and at random, under load, compared with none; brokers gone for AWAY=60 s
	tests/parts/install.sh
	cargo build --workspace
	UNDERCURRENT_CHAOS_KILLS=$(KILLS) UNDERCURRENT_CHAOS_AWAY_S=$(AWAY) \
		cargo test --workspace --test real_parts -- chaos:: brokers:: damage:: --nocapture --test-threads 1

fuzz: SECONDS ?= 60
fuzz: ## Fuzz each target for SECONDS=60, with cargo-fuzz under target/tools and a nightly toolchain
	[ -x target/tools/bin/cargo-fuzz ] || cargo install cargo-fuzz --version '^0.13' --locked --root target/tools
	cd fuzz && for target in fuzz_targets/*.rs; do \
		name=$$(basename $$target .rs); mkdir -p target/corpus/$$name; \
		PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo +nightly fuzz run $$name \
			target/corpus/$$name corpus/$$name -- -max_total_time=$(SECONDS) -max_len=4096 || exit 1; \
	done

fuzz-stable: CASES ?= 200000
fuzz-stable: ## The same targets without nightly: CASES=200000 inputs of each, made of the kept corpus (a part of `make test`)
	UNDERCURRENT_FUZZ_CASES=$(CASES) cargo test --workspace --lib fuzzing::

bench: build ## Measure the targets, each beside its reference
	tests/parts/install.sh
	cargo bench --workspace

bench-peers: build ## The hop beside crates.io's mcp-proxy (installed under target/tools)
	[ -x target/tools/bin/mcp-proxy ] || cargo install mcp-proxy --version '=0.6.0' --locked --root target/tools
	UNDERCURRENT_BENCH_MCP_PROXY=$(CURDIR)/target/tools/bin/mcp-proxy cargo bench --workspace --bench http

bench-engines: build ## Two jobs on one file each (of FRAMES=FILE, and of reports) by Undercurrent, Pathway, Bytewax and River, in one run
	benches/peers/run.sh "$(FRAMES)"

eval: build ## Replay every stream in EVAL_DATA=DIR and score it: whole, without each term, with other gates
	tests/parts/install.sh
	tests/eval/eval.sh "$(EVAL_DATA)" --binary ./target/release/undercurrent --ablation

eval-labels: build ## What labels for 5 % of the sessions of STREAM=DIR/NAME bring, over 20 draws
	tests/parts/install.sh
	target/parts/python/bin/python tests/eval/labelled.py "$(STREAM)"

eval-budgets: build ## What share of STREAMS="DIR/NAME …" is flagged at budgets of 1 % and 5 %, over five permuted orders
	tests/parts/install.sh
	target/parts/python/bin/python tests/eval/budgets.py $(STREAMS)

eval-adversary: build ## STREAM=DIR/NAME as attackers would have had it: mimicry, splitting, poisoning, flooding
	tests/parts/install.sh
	target/parts/python/bin/python tests/eval/adversary.py "$(STREAM)"
