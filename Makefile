# make demo   simulated corpora, from raw files to stores, and on to a table of results
# make test   everything that CI runs
# make docs   the site, into build/docs, its tutorials run
# All make .venv first. Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
# Named exactly: a range may pull several gigabytes of another build.
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test test-fast pytest docs lint types format clean

demo: .venv/dev
	$(BIN)/omfa-ingest demo demo
	$(BIN)/omfa-zoo demo demo

# mypy takes a core for a quarter of a minute, beside the tests. The site, which uses two cores,
# comes after them; it runs the tutorials, so that the tests leave them out.
test: .venv/dev lint
	$(MAKE) --no-print-directory --jobs=2 types pytest
	$(MAKE) --no-print-directory docs

pytest: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal --ignore=tests/test_tutorials.py

# A tutorial that fails, a link to nowhere and any other warning are errors.
docs: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

test-fast: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m "not slow"

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

# mypy does not see an editable install whose folders have other names than its packages.
types: .venv/dev
	mkdir -p build/types/omfa
	for folder in pipeline models zoo; do ln -sfn ../../../$$folder build/types/omfa/$$folder; done
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "omfa needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
	  echo "Install one and name it: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || { echo "Making .venv"; $(PYTHON) -m venv .venv; }
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

# -qq: setuptools' remarks on editable installs fill screens; errors are still shown.
.venv/base: .venv/python pyproject.toml
	@echo "Installing the pipeline into .venv"
	@$(BIN)/python -m pip install -qq --editable .
	@touch $@

.venv/dev: .venv/base
	@echo "Installing models, zoo and developer tools into .venv"
	@$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet "$(TORCH)"
	@$(BIN)/python -m pip install -qq --editable ".[all]" --group dev --group docs
	@touch $@

clean:
	rm -rf .venv build demo *.egg-info docs/api docs/gallery docs/sg_execution_times.rst
