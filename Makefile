.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PLAN ?= policies/plans/nexus-studio.yaml

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/.drill: pyproject.toml requirements.txt
	@echo "setting up (once): a virtual environment with pinned packages in .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Leeward needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local]'
	@touch $@

$(BIN)/.test: $(BIN)/.drill tests/asl/package.json
	@echo "setting up (once): the test tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local,dev]'
	@cd tests/asl && PATH="$(CURDIR)/$(BIN):$$PATH" $(CURDIR)/$(BIN)/npm ci --silent --no-audit --no-fund
	@touch $@

setup: $(BIN)/.test ## everything that the targets below need

drill: $(BIN)/.drill ## corrupt a database in the local cloud and watch it recover
	@$(BIN)/leeward drill database-corruption --plan $(PLAN) $(ARGS)

test: $(BIN)/.test ## all tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: $(BIN)/.test ## format, lint, types, import rules
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

package: $(BIN)/.drill ## the zip and the CloudFormation template, without credentials
	@$(BIN)/leeward package --plan $(PLAN) --out build/package

bench: $(BIN)/.test ## the figures of docs/benchmarks.md
	@$(BIN)/python -m bench

.PHONY: help setup drill test check package bench
