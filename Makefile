# owui-budget: `make` lists the targets.
#
# Everything is installed below this folder: .venv (our tools, LiteLLM, PostgreSQL) and .stack (Open WebUI, data, logs).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env setup up down status logs clean distclean demo budget test test-fast lint format lock browser bench

# The first interpreter that is new enough and can make virtual environments. PYTHON=/path/to/python overrides it.
PYTHONS := python3 python3.13 python3.12 python3.11
FITS := import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in $(PYTHONS); do "$$p" -c '$(FITS)' 2>/dev/null && echo "$$p" && break; done)

# Trust the certificates that this machine trusts, as pip and npm do.
export UV_SYSTEM_CERTS ?= true

BIN := .venv/bin
VENV := .venv/installed
STACK := $(BIN)/python -m stack
PYTEST := $(BIN)/python -m pytest
ARGS ?=
TESTS ?= tests

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- installation -------------------------------------------------------------------------------------------------

$(VENV): requirements/bootstrap.lock requirements/dev.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
	  echo "No usable Python: need 3.11, 3.12 or 3.13 with venv (on Debian: apt-get install python3-venv)." >&2; \
	  echo "Looked for: $(PYTHONS). Name another with make PYTHON=/path/to/python." >&2; exit 1; fi
	@test -x $(BIN)/python || { echo "creating .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.lock
	@echo "installing requirements/dev.lock into .venv"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(VENV)

venv: $(VENV) ## install our tools and LiteLLM into .venv
.PHONY: venv

setup: $(VENV) ## install everything the stack needs, and start nothing
	@$(STACK) setup

env: ## write .env for docker compose, with generated secrets (never changes what is there)
	@test -n "$(PYTHON)" || { echo "No usable Python: need 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -m stack.env_file

# --- the stack without Docker -------------------------------------------------------------------------------------

up: $(VENV) ## start everything and stay until Ctrl-C (DETACH=1: leave it running)
	@$(STACK) up $(if $(DETACH),--detach)

down: $(VENV) ## stop everything; the data stay
	@$(STACK) down

status: $(VENV) ## show what runs
	@$(STACK) status

logs: $(VENV) ## show the ends of the logs (ARGS="litellm -f" follows one)
	@$(STACK) logs $(ARGS)

demo: $(VENV) ## play the story: limit, warning, refusal, raise
	@$(STACK) demo

budget: $(VENV) ## run owui-budget on the stack (ARGS="explain bob@example.com")
	@$(STACK) budget $(ARGS)

clean: $(VENV) ## stop everything and delete its data
	@$(STACK) clean

distclean: ## delete everything that was installed, too
	@if [ -x $(BIN)/python ]; then $(STACK) clean --all; fi
	rm -rf .venv .stack dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# --- checks -------------------------------------------------------------------------------------------------------

test: $(VENV) ## all tests, those on the real stack too (TESTS=tests/unit ARGS="-k name")
	@$(STACK) setup
	@$(PYTEST) $(TESTS) $(ARGS)

test-fast: $(VENV) ## the tests that need no running program
	@$(PYTEST) $(TESTS) -m "not stack" $(ARGS)

lint: $(VENV) ## ruff, mypy and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy -p stack
	@$(BIN)/lint-imports

format: $(VENV) ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

browser: $(VENV) ## find Chromium, or install it with apt-get
	@$(BIN)/python -m stack.browser

bench: $(VENV) ## measure what the hooks cost (ARGS are the script's)
	@test -f benchmarks/run.py || { echo "There is no benchmarks/run.py." >&2; exit 1; }
	@$(BIN)/python -m benchmarks.run $(ARGS)

# --- locks --------------------------------------------------------------------------------------------------------

COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
  --no-emit-index-url --generate-hashes

lock: ## write requirements/*.lock anew (ARGS=--upgrade for newer versions)
	@test -x $(BIN)/uv || { echo "Run make venv first." >&2; exit 1; }
	$(COMPILE) $(ARGS) --group dev pyproject.toml -o requirements/dev.lock
	$(COMPILE) -c requirements/dev.lock pyproject.toml -o requirements/runtime.lock
	$(COMPILE) -c requirements/dev.lock requirements/bootstrap.in -o requirements/bootstrap.lock
	$(COMPILE) -c requirements/dev.lock requirements/build.in -o requirements/build.lock
	$(COMPILE) $(ARGS) --override requirements/openwebui.overrides requirements/openwebui.in -o requirements/openwebui.lock
