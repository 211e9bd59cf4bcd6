# Everything a person does here, from a clean clone on.  `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEWER := .venv-3.13
STAMP := $(VENV)/.installed
ARGS ?=
MINUTES ?= 30
SEED ?=
CORES ?= 2

.PHONY: help setup up test test-all test-newer lint bench soak

help: ## list the targets
	@echo "modplane: targets of this Makefile"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the locked dependencies; does nothing when nothing changed

$(STAMP): pyproject.toml deploy/requirements.txt
	@command -v $(PYTHON) > /dev/null || { echo "setup: no $(PYTHON) on PATH; install Python 3.11 or newer, or say PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: $(PYTHON) is older than 3.11; say PYTHON=python3.11" >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { echo "setup: could not make $(VENV); on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "setup: installing the locked dependencies into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r deploy/requirements.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q controlplane dataplane schemas
	@touch $(STAMP)

up: setup ## run everything on this machine with the examples; ARGS="--workers 4 --data-port 9000"
	@exec $(BIN)/modplane up --modules deploy/examples --data-dir .modplane $(ARGS)

test: setup ## the tests; ARGS="-k name" narrows them
	@$(BIN)/python -m pytest -n $(CORES) --dist loadfile -m "not slow and not postgres" $(ARGS)

test-all: setup ## the tests, with the slow ones and those on PostgreSQL; their coverage held at 90 %
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n $(CORES) --dist loadfile $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=90

test-newer: ## the unit tests on Python 3.13, if this machine has one
	@newer=""; for each in python3.13 $$HOME/.pyenv/versions/3.13.*/bin/python3.13; do \
		"$$each" -c "" 2> /dev/null && newer="$$each" && break; \
	done; \
	if [ -z "$$newer" ]; then echo "test-newer: no Python 3.13 here, nothing run"; exit 0; fi; \
	[ -x $(NEWER)/bin/python ] || "$$newer" -m venv $(NEWER); \
	$(NEWER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.txt; \
	$(NEWER)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	$(NEWER)/bin/python -m pytest -q -p no:cacheprovider -n $(CORES) --dist loadfile \
		-m "not slow and not postgres and not processes" $(ARGS)

lint: setup ## formatting, style, types, who may import what, published schemas, documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m schemas.publishing --check
	@$(BIN)/python -m pytest -q tests/documents

bench: setup ## measure: apply to live, dispatch beside bare FastAPI, callers, changes under load, bulk, inspection; ARGS="dispatch"
	@$(BIN)/python -m tests.bench $(ARGS)

soak: setup ## a platform lives through random people and faults, every answer checked; MINUTES=30, SEED= repeats one
	@MINUTES="$(MINUTES)" SEED="$(SEED)" $(BIN)/python -m tests.soak
