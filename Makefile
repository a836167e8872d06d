# Two commands on a fresh machine with Python and make: `make demo` and `make test`.
# Both set up .venv when it is absent or older than setup.cfg; a second run starts at once.

PYTHON ?= python3
VENV   ?= .venv
FRAMES ?= 200
RATE   ?= 10
ARGS   ?=
PORT   ?= 8000
DESTDIR ?= /
PREFIX  ?= /opt/edgeinspect

# Tests that take seconds: pure code, the configuration, the path of a frame.
QUICK := tests/unit/domain tests/unit/config tests/unit/system tests/unit/pipeline/capture \
    tests/unit/pipeline/inspection tests/unit/pipeline/verdicts tests/unit/storage/spool \
    tests/unit/storage/shared_memory tests/unit/test_registry.py tests/unit/test_errors.py

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO := $(VENV)/.ready-demo
LINE := $(VENV)/.ready-line
TEST := $(VENV)/.ready-test
DOCS := $(VENV)/.ready-docs
SITE := build/site

.DEFAULT_GOAL := help
.PHONY: help demo test check lint format venv line install deb docs docs-build release clean

help:  ## Show this list
	@echo "edgeinspect: frames in, verdicts out"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter (3.10 to 3.13) for a new $(VENV)."

demo: $(DEMO)  ## Set up, then run a whole line on the synthetic camera (FRAMES, RATE, ARGS)
	@$(BIN)/edgeinspect demo --frames $(FRAMES) --rate $(RATE) $(ARGS)

test: $(TEST)  ## Set up, then run every test (ARGS goes to pytest)
	@$(BIN)/python -m pytest $(ARGS)

check: lint  ## What to run before a commit: lint and the quick tests, under a minute
	@$(BIN)/python -m pytest $(QUICK)

lint: $(TEST)  ## Ruff, mypy and the layers
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports

format: $(TEST)  ## Format the sources
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

venv: $(TEST)  ## Only set up

line: $(LINE)  ## Only set up what a line PC wants

# What is installed is what this environment holds: the versions of install/constraints.txt, with
# which the tests pass.
install: $(LINE)  ## Install on this PC: PREFIX, units, manual, example (DESTDIR, ARGS)
	@$(BIN)/python install/layout.py --destdir "$(DESTDIR)" --prefix "$(PREFIX)" $(ARGS)
	@if [ "$(DESTDIR)" = / ]; then PREFIX="$(PREFIX)" sh install/debian/postinst configure; fi

deb: $(LINE)  ## Make a Debian package in dist/ (ARGS goes to install/deb.py)
	@$(BIN)/python install/deb.py $(ARGS)

docs: docs-build  ## Build the documentation site and serve it on this PC (PORT)
	@echo "http://127.0.0.1:$(PORT)/index.html   (Ctrl-C ends; $(SITE)/index.html opens without a server too)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) $(PORT) 2>/dev/null || \
	    { [ $$? -eq 130 ] || { echo "make docs: port $(PORT) is taken; try PORT=8001" >&2; exit 1; }; }

docs-build: $(DOCS)  ## Build the documentation site into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --site-dir $(SITE)

release: $(LINE)  ## Build what a release publishes from this commit, in dist/ (ARGS: --check)
	@$(BIN)/python install/release.py $(ARGS)

clean:  ## Remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	    .import_linter_cache

# A virtual environment that exists and starts is kept, whoever made it.
define ensure-venv
	@$(BIN)/python -c 'import pip' 2>/dev/null || { \
	    $(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	        echo "make: edgeinspect needs Python 3.10 to 3.13; $(PYTHON) is" \
	             "$$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	        exit 1; }; \
	    $(PYTHON) -m venv --clear $(VENV) || { \
	        echo "make: $(PYTHON) cannot make a virtual environment;" \
	             "on Debian and Ubuntu: apt-get install python3-venv" >&2; \
	        exit 1; }; }
endef

$(DEMO): setup.cfg pyproject.toml install/constraints.txt
	$(ensure-venv)
	@echo "Setting up $(VENV) for the demo (the first time takes a minute or two) ..."
	@$(PIP) install --constraint install/constraints.txt --editable '.[cpu]'
	@touch $@

$(LINE): setup.cfg pyproject.toml install/constraints.txt
	$(ensure-venv)
	@echo "Setting up $(VENV) for a line PC (the first time takes a minute or two) ..."
	@$(PIP) install --constraint install/constraints.txt --editable '.[cpu,onnx,plc,hmi,record,package]'
	@touch $(DEMO) $@

$(TEST): setup.cfg pyproject.toml install/constraints.txt
	$(ensure-venv)
	@echo "Setting up $(VENV) for the tests (the first time takes a few minutes) ..."
	@$(PIP) install --constraint install/constraints.txt --editable '.[cpu,train,plc,hmi,genicam,record,package,test,dev,docs]'
	@touch $(DEMO) $(LINE) $(DOCS) $@

$(DOCS): setup.cfg pyproject.toml install/constraints.txt
	$(ensure-venv)
	@echo "Setting up $(VENV) for the documentation (the first time takes a minute) ..."
	@$(PIP) install --constraint install/constraints.txt --editable '.[docs]'
	@touch $@
