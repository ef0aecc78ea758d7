# Everything runs from .venv, which `make install` fills; it needs only python3 (3.11 or later) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run run-postgres demo test mutants check fuzz format stalls bench bench-postgres chaos openapi lock clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

install: $(INSTALLED) ## Put the service and its tools into .venv

# The stamp is written last: an install that broke off is done again.
$(INSTALLED): requirements/dev.txt pyproject.toml hatch_build.py app/version.py client/pyproject.toml client/rexecutor_client/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=/path/to/it")'
	@echo "Installing into $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable client --editable .
	@touch $@

run: install ## Run the service on SQLite, on http://127.0.0.1:8000
	@$(BIN)/rexecutor serve

run-postgres: install ## Run two servers over a PostgreSQL that comes and goes with them, for trying
	@$(BIN)/python -m tests.try_postgres

demo: install ## Watch real jobs run, for half a minute
	@$(BIN)/rexecutor demo

test: install ## Run the tests
	$(BIN)/pytest -n 2 --dist loadfile

mutants: install ## Bring known bugs back, one by one, and see a test fail for each
	$(BIN)/python tests/mutants/run.py

check: install ## All that CI checks: format, lint, types, imports, tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(MAKE) --no-print-directory test

fuzz: install ## Try random operations and requests, MINUTES for each test (default 5)
	FUZZ_MINUTES=$(or $(MINUTES),5) $(BIN)/pytest -m "" --timeout=0 -p no:randomly tests/fuzz

format: install ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

stalls: install ## Prove that workers that never read harm nobody: 50 of 100
	STALL_WORKERS=100 STALL_LEAST_SHARE=0.9 STALL_SECONDS=3 STALL_ROUNDS=5 $(BIN)/pytest -s tests/end_to_end/test_stalled_clients.py

bench: install ## Measure the speed
	$(BIN)/python -m benchmarks

bench-postgres: install ## Measure the speed on PostgreSQL, which is started for it
	$(BIN)/python -m benchmarks --postgres

chaos: install ## Make faults for half an hour, and judge what came of them
	$(BIN)/pytest -m chaos
	HISTORY_SECONDS=300 $(BIN)/pytest -s tests/history/test_two_servers.py
	$(BIN)/python -m tests.chaos --write

openapi: install ## Write openapi/openapi.json and asyncapi.json anew
	$(BIN)/rexecutor openapi

# --no-header: the header would name the command with its paths. No option writes an index into the files.
# The client is installed from its folder, beside the server.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-emit-package rexecutor-client $(LOCK_FLAGS)

lock: install ## Lock the requirements anew (LOCK_FLAGS=--upgrade for newer versions)
	$(LOCK) --extra postgres --output-file requirements/base.txt pyproject.toml
	$(LOCK) --output-file requirements/build.txt requirements/build.in
	$(LOCK) --extra postgres --output-file requirements/dev.txt pyproject.toml requirements/dev.in

clean: ## Remove .venv, caches and builds
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
