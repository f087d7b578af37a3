# `make help` lists the targets. Needs Python 3.11 or newer and make; everything else goes into .venv.

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
# Stamps: what was installed, from which pyproject.toml and constraints.txt. Newer ones install again.
ALL := $(VENV)/.limbeck-all
DEV := $(VENV)/.limbeck-dev
PINS := pyproject.toml constraints.txt
# One thread a process: the tests run side by side, and some compare results bit by bit.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint bench notebook clean

help: ## this list
	@echo "limbeck: turn a large trained model into a small one, and prove what was kept."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Variables: PYTHON=python3.12 (any Python >= 3.11), PIP_ARGS=\"...\" (more options for pip install),"
	@echo "           JOBS=4 (test processes), PYTEST_ARGS=\"-k name\"."

demo: $(ALL) ## set up .venv and run the demo: a report in runs/demo
	$(BIN)/limbeck demo

test: lint ## set up .venv, then linter, format, types and tests
	$(THREADS) $(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(PYTEST_ARGS)

test-slow: $(DEV) ## the tests that take minutes
	$(THREADS) $(BIN)/python -m pytest -n $(JOBS) -m slow $(PYTEST_ARGS)

# Without its cache: ruff sorts imports by which modules exist, and the cache does not see one appear.
lint: $(DEV) ## linter, format and types only
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV) ## time a distillation step against hand-written loops
	@test -f benchmarks/distill_step.py || { echo "make bench: benchmarks/distill_step.py is not here"; exit 1; }
	$(BIN)/python benchmarks/distill_step.py --json

notebook: $(DEV) ## execute examples/quickstart.ipynb in place
	$(BIN)/jupyter-execute --inplace examples/quickstart.ipynb

clean: ## remove .venv, caches and build leftovers; runs/ stays
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# A dangling link (its Python was removed) counts as missing, so the environment is made again.
$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "limbeck needs Python 3.11 or newer, and '$(PYTHON)' was not found."; \
	  echo "  cure: install one, or name it: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "limbeck needs Python 3.11 or newer, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1)."; \
	  echo "  cure: install a newer one and name it: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' can not make virtual environments: its venv or ensurepip module is missing."; \
	  echo "  cure: Debian and Ubuntu keep it in a package of its own: sudo apt install python3-venv"; \
	  echo "        then run the same command again; elsewhere, use a Python from python.org"; exit 1; }
	@rm -f $(ALL) $(DEV)
	"$(PYTHON)" -m venv $(VENV)

# The dev set holds the other one, so installing it marks both.
$(ALL): $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[all]"
	@touch $(ALL)

$(DEV): $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $(ALL) $(DEV)
