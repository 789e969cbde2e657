# Everything a person needs of this repository, as targets. `make demo` and `make test` start from nothing.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH_INDEX ?=
BIN := .venv/bin
BENCH := .venv-bench/bin
WORKERS ?= 2

.PHONY: install demo test test-full lint coverage bench bench-install clean

install: .venv/installed

# torch first and by itself, so that TORCH_INDEX decides which build everything after it finds in place.
.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[dev]"
	@touch $@

demo: install
	$(BIN)/ornstein demo

lint: install
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --quiet 2>/dev/null || $(BIN)/lint-imports

# One thread per worker: a test that waits for the threads of another is slower than one that has none.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

test-full: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "slow or not slow"

coverage: install
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --fail-under=90

# The peers live beside the project, never in its own environment. --no-deps keeps out torchvision, which they ask for and
# the benchmarks do not need.
bench-install: .venv-bench/installed

.venv-bench/installed: pyproject.toml constraints.txt benchmarks/requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3."; exit 2; }
	$(PYTHON) -m venv .venv-bench
	$(BENCH)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BENCH)/python -m pip install --quiet -c constraints.txt --editable .
	$(BENCH)/python -m pip install --quiet --no-deps -r benchmarks/requirements.txt
	@touch $@

bench: install bench-install
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv .venv-bench build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
