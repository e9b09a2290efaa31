# `make demo` and `make test` need a bare machine with Python >= 3.11 and gcc; they install the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

VENV := .venv
BIN := $(VENV)/bin
# Set PYTHON=/path/to/python to choose; else the first of these that runs and is new enough.
PYTHON ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0

help: ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.installed ## make .venv and install everything into it
	@:

demo: setup ## a whole study on a synthetic cohort, left in demo_study/
	@$(BIN)/mgmt-ray demo --out demo_study

test: setup ## the test-suite
	@$(BIN)/pytest -n 3

lint: setup ## style, types and the rooms' import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --num-workers 2
	@$(BIN)/lint-imports --no-cache

format: setup ## let ruff fix what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove .venv, caches and the demo's study
	@rm -rf $(VENV) build *.egg-info demo_study .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find mgmt_ray tests jobs -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is older than its sources after each change of them; pip then only adds what is new.
$(VENV)/.installed: pyproject.toml constraints.txt
	@set -e; \
	python=''; \
	for candidate in $(or $(PYTHON),python3.11 python3.12 python3.13 python3); do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "setup: no Python of version 3.11 or newer among: $(or $(PYTHON),python3.11 python3.12 python3.13 python3). Install one (Debian, Ubuntu: apt-get install python3 python3-venv python3-dev) or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 2; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "setup: $$python cannot make virtual environments. Install its venv package (Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 2; \
	fi; \
	if ! command -v gcc >/dev/null; then \
	  echo "setup: gcc not found. elasticdeform is built from source, because its wheel does not import under NumPy 2. Install a compiler (Debian, Ubuntu: apt-get install gcc libc6-dev)." >&2; exit 2; \
	fi; \
	if ! $$python -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'; then \
	  echo "setup: $$python has no Python.h, which elasticdeform is built with. Install its headers (Debian, Ubuntu: apt-get install python3-dev)." >&2; exit 2; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "setup: $(VENV) with $$($$python --version)"; $$python -m venv $(VENV); \
	fi; \
	echo "setup: installing torch (the largest part)"; \
	$(BIN)/python -m pip install -qq --no-compile -c constraints.txt torch; \
	$(BIN)/python -m compileall -qq $(VENV)/lib/python3*/site-packages/torch & \
	echo "setup: installing Ray, MLflow, MONAI and the rest, elasticdeform from source"; \
	$(BIN)/python -m pip install -qq --no-compile -c constraints.txt -e '.[dev]'; \
	wait; \
	$(BIN)/python -m compileall -qq -j 0 -x '/tests?/|/ray/rllib/|/databricks/' $(VENV)/lib || true; \
	touch $@; \
	echo "setup: done"
