# Two commands: `make demo` and `make test`. Each sets up what it needs in .venv the first time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint chaos soak fuzz install clean

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## Rank real manuscripts through an embedded Valkey and a CPU worker
	@$(BIN)/xuankan demo

test: lint ## Lint, run the tests
	# Half of the time is waiting. A file stays in one process, so that what it shares is made once.
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev ## Lint Python, JavaScript and shell scripts, check types and imports
	$(BIN)/ruff check producer worker tests deploy
	$(BIN)/ruff format --check producer worker tests deploy
	$(BIN)/pyright --warnings
	$(BIN)/lint-imports
	$(BIN)/oxlint --deny-warnings producer docs
	grep -rlE '^#!/bin/sh' .ci deploy | xargs $(BIN)/shellcheck

chaos: $(VENV)/.dev ## Break everything while requests run: SEED=1 REQUESTS=20000 SERVER=valkey|redis|cluster
	$(BIN)/python -m tests.chaos --seed $(or $(SEED),1) --requests $(or $(REQUESTS),20000) --server $(or $(SERVER),valkey)

soak: $(VENV)/.dev ## Load a real worker and portal for hours; fails if memory, descriptors, threads or keys grow: HOURS=1
	$(BIN)/python -m tests.soak --hours $(or $(HOURS),1)

fuzz: $(VENV)/.dev ## Feed the decoders messages made to do harm: SEED=1 MESSAGES=1000000
	$(BIN)/python -m tests.chaos.fuzz --seed $(or $(SEED),1) --messages $(or $(MESSAGES),1000000)

install: $(VENV)/.dev ## Set up everything that developing needs, pre-commit hooks included
	$(BIN)/pre-commit install

$(VENV)/.python:
	@deploy/make-venv "$(PYTHON)" "$(VENV)"
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.demo

clean: ## Remove .venv and every cache
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
