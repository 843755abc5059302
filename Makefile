# make demo   everything on the rendered sample, from a fresh clone
# make test   lint, types, architecture and tests
# make fuzz   every attack on images, labels, bundles and YAML; a plain test run takes a sample of them
# make chaos  commands, dvc repro and workers killed twenty times, full disks, and the same bytes in the end
# make bench  the speed claims of the docs, measured again on this machine

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# dvc.yaml calls the console script vec2age by name
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint types architecture fuzz chaos bench lock clean

demo: $(INSTALLED)
	$(BIN)/dvc repro
	@$(BIN)/vec2age where

# pip is told --no-deps: the lock names every package, and setuptools for the editable install.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "vec2age needs Python 3.11 or newer: call make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

test: $(INSTALLED) lint types architecture
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal # two processes of two threads get in each other's way

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

architecture: $(INSTALLED)
	$(BIN)/lint-imports

fuzz: $(INSTALLED)
	FUZZ=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --timeout 0 tests/fuzz tests/safety

chaos: $(INSTALLED)
	CHAOS=1 $(BIN)/python -m pytest --timeout 0 tests/chaos tests/stages/test_refusals.py tests/stages/test_going_back.py

bench: $(INSTALLED)
	$(BIN)/python -m bench

# Renew the lock from the ranges in pyproject.toml, in an environment of its own.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet setuptools ".[dev]"
	.venv-lock/bin/python tools/lock.py > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
