# Needs Python 3.11 and make. Every target may be repeated: what is up to date is left alone.

PYTHON ?= python3.11
PRESET ?= laptop
BIN    := .venv/bin
READY  := .venv/.ready
# A copied or moved checkout brings an environment that belongs to another folder.
FOREIGN := $(shell test -s $(READY) && ! pwd -P | cmp -s - $(READY) && echo foreign)

PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --durations 20
NBVAL  := $(PYTEST) --nbval --dist loadfile
SHORT  := appendix_c lipschitz theorem_3_1

.DEFAULT_GOAL := help
.PHONY: help book pdf class test validate bench gpu lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/make \1 —/p' $(MAKEFILE_LIST)

book: $(READY)  ## run the notebooks (PRESET=laptop) and build the book to _build/html
	@$(BIN)/stochrestore book --preset "$(PRESET)"
	@echo "The book: _build/html/index.html"

pdf: book  ## the book as one PDF, _build/book.pdf, printed by Chromium
	@$(BIN)/stochrestore pdf

class: $(READY)  ## the exercises as students get them: _build/class, and a zip to hand out
	@$(BIN)/stochrestore class build

test: book  ## the book, then lint, types, order of imports, the short notebooks again, and tests
	$(BIN)/stochrestore claims --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(NBVAL) $(SHORT:%=book/executed/%.ipynb)
	$(PYTEST) --dist worksteal

validate: book  ## every notebook again, compared with its page by nbval
	$(NBVAL) book/executed

bench: $(READY)  ## measure what the library promises, in ten minutes; table and _build/bench.json
	@$(BIN)/python -m benchmarks --full

gpu: $(READY)  ## on a machine with a GPU: its tests, the reference run, speeds, Figure 8; continues where it ended
	@.ci/gpu

# The CUDA libraries are torch's own dependencies: it brings those that suit the machine.
lock: $(READY)  ## requirements.lock from pyproject.toml; pins that still fit stay (remove it to renew all)
	$(BIN)/pip-compile --quiet --all-extras --strip-extras --allow-unsafe --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	    --output-file requirements.lock pyproject.toml
	sed -i -e 's/+[a-z0-9.]*$$//' -e '/^\(nvidia-\|cuda-\|triton==\|pip==\|#\|$$\)/d' requirements.lock

clean:  ## remove everything generated, but for the environment and trained weights
	rm -rf _build book/executed .snakemake

# A whole environment that is there keeps its Python; half of one is begun again.
$(READY): requirements.lock pyproject.toml $(if $(FOREIGN),renew)
	@echo "Installing into .venv; minutes, once."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv && $(PYTHON) -m venv .venv; } || \
	    { rm -rf .venv; echo "No environment: install $(PYTHON) with its module venv (python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@pwd -P > $@

.PHONY: renew
renew:
	@echo "The environment in .venv belongs to another folder; it is made anew."
	@rm -rf .venv
