# Two commands set everything up on a fresh Debian or Ubuntu machine (root needed for packages and Docker):
#   make demo   back up a live Odoo, restore it in a sandbox, prove it: on a local directory
#   make test   every check: format, lints, docs, all tests against real servers
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

STORAGE ?= local
CARGO ?= cargo
BIN := target/release/lifeboat

.PHONY: help install azurite packages axe schemathesis oidc build demo test surroundings compile lint unit bench up down clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | column -t -s $$'\t'

install: ## Install what is missing (apt), start Docker if it is not running
	@testbed/install

azurite: install ## Install the emulator of Azure Blob Storage (npm)
	@testbed/azurite

packages: install ## Fetch Prometheus and a mail server for tests (nothing is installed)
	@testbed/packages prometheus
	@testbed/packages smtp

axe: install ## Install the rules for accessible pages (npm)
	@testbed/axe

schemathesis: install ## Install what holds the API against its document (pip)
	@testbed/schemathesis

oidc: install ## Install an OpenID Connect provider (npm)
	@testbed/oidc

build: ## Build the release binary
	$(CARGO) build --release --locked -p lifeboat

demo: install build ## Back up the testbed's Odoo and drill it (STORAGE=local or s3)
	@testbed/demo $(STORAGE)

up: install ## Start PostgreSQL, Odoo 19, Odoo 14 and Ceph RGW of the testbed
	@testbed/testbed up --s3 --odoo14

down: ## Stop the testbed
	@testbed/testbed down

surroundings:
	@$(MAKE) --no-print-directory -j1 azurite packages axe schemathesis oidc up
	@testbed/testbed images postgres:15 postgres:18

compile: lint
	$(CARGO) test --locked --workspace --no-run

lint: ## Format, clippy and documentation, all without warnings
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items -q

unit: ## Tests that need no Docker
	$(CARGO) test --locked --workspace

# The surroundings are mostly waiting for downloads and disks, compiling is not: together they take as long as the longer one.
# Tests mostly wait as well, for servers and containers: one more at a time than there are processors.
test: install ## Everything, against real PostgreSQL, Odoo, S3, Azurite and Docker
	@$(MAKE) --no-print-directory -j2 surroundings compile
	LIFEBOAT_TESTBED=1 RUST_TEST_THREADS=3 $(CARGO) test --locked --workspace --no-fail-fast

bench: install build ## Side by side with pg_basebackup, pgBackRest, restic and rustic; what a daemon costs
	@testbed/bench/run
	$(CARGO) test --release --locked -p lifeboat-daemon --test day -- idle
	LIFEBOAT_TESTBED=1 $(CARGO) test --release --locked -p lifeboat-daemon --test dashboard -- --nocapture thousand
	@[ ! -e .demo/local/lifeboat.toml ] || testbed/bench/drill

clean: ## Remove build output and the demo's folder
	rm -rf target .demo
