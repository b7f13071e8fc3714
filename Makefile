# The commands of this repository. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where `make cluster` takes its templates from, and where it writes what it has started.
TEMPLATES ?= templates
READY_FILE ?=
# More flags for `make dev`, `make cluster`, `make bench`; a filter for `make test`.
ARGS ?=
# How long each target of `make fuzz` gets.
MINUTES ?= 10

# One place to say how Nomad and Consul are found: the recipes that start agents run `$(with-tools)` first.
with-tools = tools="$$(scripts/tools)"; eval "$$tools"; export BIVOUAC_NOMAD BIVOUAC_CONSUL
# The same, with Terraform for the checks of terraform/, and with h2spec.
with-all-tools = tools="$$(scripts/tools terraform h2spec)"; eval "$$tools"; \
  export BIVOUAC_NOMAD BIVOUAC_CONSUL BIVOUAC_TERRAFORM="$${BIVOUAC_TERRAFORM:-}" BIVOUAC_H2SPEC="$${BIVOUAC_H2SPEC:-}"

.PHONY: help
help: ## List these commands
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: dev
dev: ## Bivouac in one process, to try: no Nomad, no Consul (ARGS="--api 127.0.0.1:0")
	@scripts/setup build
	cargo build --workspace --bin bivouac
	@exec "$$(scripts/binary debug)" dev $(ARGS)

.PHONY: test
test: ## The whole test suite, real agents included (ARGS=a_test_name)
	@scripts/setup test
	@$(with-all-tools); set -x; \
	  cargo build --workspace --bin bivouac --bin bivouac-guest; \
	  cargo test --workspace --no-fail-fast $(ARGS)

.PHONY: locked
locked: ## The cluster scenarios that `make test` does not run on locked agents (ARGS=a_test_name)
	@scripts/setup test
	@$(with-tools); set -x; \
	  cargo build --workspace --bin bivouac --bin bivouac-guest; \
	  BIVOUAC_LOCKED=1 cargo test -p bivouac-tests --test it $(ARGS) -- \
	    --skip ::embedded --skip ::cluster --skip ::locked --skip locked:: --skip denied:: --skip harness:: --skip a_namespace_

.PHONY: fuzz
fuzz: ## Random input to everything that reads what strangers send (MINUTES=10 for each target)
	@scripts/setup build
	BIVOUAC_FUZZ_SECONDS=$$(($(MINUTES) * 60)) \
	  cargo test -p bivouac-protocol -p bivouac-proxy --lib fuzz_ -- --ignored --nocapture

.PHONY: cluster
cluster: ## A Nomad and Consul cluster on loopback with Bivouac on it (READY_FILE=F TEMPLATES=D)
	@scripts/setup build
	cargo build --workspace --bin bivouac --bin cluster
	@$(with-tools); \
	  exec "$$(scripts/binary debug cluster)" --binary "$$(scripts/binary debug)" --templates $(TEMPLATES) \
	    $(if $(READY_FILE),--ready-file $(READY_FILE)) $(ARGS)

.PHONY: bench
bench: ## Start times against a bare Nomad job; speed and memory of the proxy against nginx and haproxy
	@scripts/setup bench
	cargo build --release --workspace --bin bivouac --bin bivouac-guest --bin bench
	@$(with-tools); exec "$$(scripts/binary release bench)" $(ARGS)

.PHONY: ci
ci: ## What CI runs: fmt, clippy, doc, deny, then the tests
	@scripts/setup test
	@$(MAKE) fmt-check
	@$(MAKE) clippy
	@$(MAKE) doc
	@$(MAKE) deny
	@$(MAKE) test

.PHONY: fmt
fmt: ## Format the sources
	cargo fmt --all

.PHONY: fmt-check
fmt-check:
	cargo fmt --all --check

.PHONY: clippy
clippy: ## Lint; warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: doc
doc: ## Build the documentation; warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

.PHONY: deny
deny: ## Check the dependencies: bans, licences, sources
	@scripts/cargo-deny

.PHONY: setup
setup: ## Install what is missing for everything here, and build Nomad and Consul
	@scripts/setup test
	@scripts/setup bench
	@scripts/tools

.PHONY: clean
clean: ## Remove what was built here (not the cached tools)
	cargo clean
