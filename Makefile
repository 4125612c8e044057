# Everything a developer or a CI machine runs. `make` alone lists the targets.
# Work that is done is not done again: stamps lie in .venv/, node_modules/ and rust/target/.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CARGO  := cargo --quiet
RUST   := --manifest-path rust/Cargo.toml
NODE   := tests/clients/node_modules

# maturin, cython-lint and cargo find the environment's tools, whoever calls them.
export PATH := $(abspath $(BIN)):$(PATH)
export VIRTUAL_ENV := $(abspath $(VENV))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env build serve test check-system lint format cargo-test pytest bench compare profile clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: build ## build, and serve on the embedded log: the banner says the rest (ARGS='--port 9000')
	@$(BIN)/python -m fanout serve $(ARGS)

test: check-system build $(NODE)/.stamp ## install what the tests need, then lint and run every test
	@$(MAKE) --no-print-directory lint cargo-test
	@$(MAKE) --no-print-directory pytest

lint: build ## ruff, mypy, cython-lint, rustfmt, clippy: warnings are errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest fanout._core --allowlist tests/house/stubtest.txt
	PATH="$(abspath $(BIN)):$$PATH" cython-lint fanout
	$(CARGO) fmt $(RUST) --all --check
	$(CARGO) clippy $(RUST) --all-targets -- -D warnings

format: env ## put Python and Rust into the project's layout
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(CARGO) fmt $(RUST) --all

cargo-test: ## the tests of the Rust crates
	$(CARGO) test $(RUST) --package fanout-engine --package fanout-io --package fanout-load \
		--package fanout-mqtt

pytest: build ## the tests of the package, short benchmarks among them (ARGS='-k name')
	$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),tests benchmarks)

bench: build ## measure (ARGS='-k name'); takes minutes and wants a quiet machine
	FANOUT_BENCH=full $(BIN)/python -m pytest benchmarks --benchmark-only $(ARGS)

compare: build ## measure beside other servers (ARGS='--help' teaches); fetches them, takes minutes
	@$(BIN)/python -m benchmarks.compare $(if $(ARGS),$(ARGS),--help)

profile: build ## sample the node under load with perf, and print where its CPU time goes
	$(BIN)/python -m benchmarks.profile_node $(ARGS)

env: $(VENV)/.stamp-env ## make .venv with everything that building needs

build: $(VENV)/.stamp-install ## compile what has changed, for running from this folder
	@$(BIN)/python setup.py
	@maturin develop --release --skip-install \
		2> $(VENV)/maturin.log || { cat $(VENV)/maturin.log; exit 1; }

clean: ## remove what was built and installed; messages in fanout-data stay
	rm -rf $(VENV) $(NODE) rust/target build dist *.egg-info
	find fanout \( -name '*.so' -o -name '*.c' -o -name __pycache__ \) -prune -exec rm -rf {} +

$(VENV)/.stamp-env: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3'; exit 1; }
	@command -v cargo >/dev/null || { echo 'Rust is needed: see https://rustup.rs'; exit 1; }
	@echo 'fetching the build tools into $(VENV)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		> $(VENV)/build-requires.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/build-requires.txt
	@touch $@

# The build uses the environment's tools and no copies of its own, so that cargo finds its last work.
$(VENV)/.stamp-install: $(VENV)/.stamp-env
	@echo 'compiling fanout and fetching what it needs: one to three minutes the first time'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation --editable '.[test,lint]'
	@touch $@

$(NODE)/.stamp: tests/clients/package.json
	cd tests/clients && npm install --silent --no-audit --no-fund
	@touch $@

# What the tests use besides Python: a browser, Node.js, nginx, MQTT clients, and a JVM with Maven for a real Kafka.
check-system:
	@missing=; PATH="$$PATH:/usr/sbin"; \
	for need in java:default-jre-headless mvn:maven node:nodejs npm:npm chromium:chromium \
		nginx:nginx-light mosquitto_pub:mosquitto-clients; do \
		command -v $${need%%:*} >/dev/null || missing="$$missing $${need#*:}"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "the tests need more programs: apt-get install$$missing"; exit 1; fi; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$missing >/dev/null
