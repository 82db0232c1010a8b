# Needs Python 3.11 and make. Every target may be repeated: what is up to date is left alone.

PYTHON ?= python3.11
PRESET ?= laptop
BIN    := .venv/bin
READY  := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help book pdf class test bench lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/make \1 —/p' $(MAKEFILE_LIST)

book: $(READY)  ## run the notebooks (PRESET=laptop) and build the book to _build/html
	@$(BIN)/snakemake book --config preset=$(PRESET)
	@echo "The book: _build/html/index.html"

pdf: book  ## the book as one PDF, _build/book.pdf, printed by Chromium
	@$(BIN)/stochrestore pdf

class: $(READY)  ## the exercises as students get them: _build/class, and a zip to hand out
	@$(BIN)/stochrestore class build

test: $(READY)  ## the book, then lint, types, order of imports, notebooks and tests
	@$(BIN)/snakemake book validated --config preset=$(PRESET)
	$(BIN)/stochrestore claims --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

bench: $(READY)  ## measure what the library promises, in ten minutes; table and _build/bench.json
	@$(BIN)/python -m benchmarks --full

# The CUDA libraries are torch's own dependencies: it brings those that suit the machine.
lock: $(READY)  ## requirements.lock from pyproject.toml; pins that still fit stay (remove it to renew all)
	$(BIN)/pip-compile --quiet --all-extras --strip-extras --allow-unsafe --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	    --output-file requirements.lock pyproject.toml
	sed -i -e 's/+[a-z0-9.]*$$//' -e '/^\(nvidia-\|cuda-\|triton==\|pip==\|#\|$$\)/d' requirements.lock

clean:  ## remove everything generated, but for the environment and trained weights
	rm -rf _build book/executed .snakemake

# An environment that is there keeps its Python.
$(READY): requirements.lock pyproject.toml
	@echo "Installing into .venv; minutes, once."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
