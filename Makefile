# Two commands on a fresh machine with Python and make: `make demo` and `make test`.
# Both set up .venv when it is absent or older than setup.cfg or its lock; a second run starts at once.

PYTHON ?= python3
VENV   ?= .venv
FRAMES ?= 200
RATE   ?= 10
ARGS   ?=
PORT   ?= 8000
DESTDIR ?= /
PREFIX  ?= /opt/edgeinspect
# `cpu`: the build for a processor; `no`: none (tests that need it skip). Otherwise words for pip,
# such as a file: by default the version in setup.cfg, which the package index has with CUDA.
TORCH   ?= $(PINNED_TORCH)
PINNED_TORCH := $(shell sed -n 's/^ *\(torch==.*\)/\1/p' setup.cfg | head -n 1)
PIP_TORCH = $(if $(filter cpu,$(TORCH)),$(PINNED_TORCH) --index-url https://download.pytorch.org/whl/cpu,$(TORCH))
# The environment that `make verify-lock` builds: demo, line or test.
LOCK    ?= line

# Tests that take seconds: pure code, the configuration, the path of a frame.
QUICK := tests/unit/domain tests/unit/config tests/unit/system tests/unit/pipeline/capture \
    tests/unit/pipeline/inspection tests/unit/pipeline/verdicts tests/unit/storage/spool \
    tests/unit/storage/shared_memory tests/unit/test_registry.py tests/unit/test_errors.py

BIN  := $(VENV)/bin
# Python compiles a module when it is first imported: compiling all doubles the time of a set-up.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile
# uv is in the environment of the tests, or on the system.
WITH_UV = $(if $(wildcard $(BIN)/uv),$(BIN)/python,$(PYTHON))
RANGES  = $(WITH_UV) install/ranges.py
DEMO := $(VENV)/.ready-demo
LINE := $(VENV)/.ready-line
TEST := $(VENV)/.ready-test$(if $(filter no,$(TORCH)),-without-torch)
DOCS := $(VENV)/.ready-docs
SITE := build/site

.DEFAULT_GOAL := help
.PHONY: help demo test check lint format venv line install deb docs docs-build lint-docs release lock \
    verify-lock floors newest clean

help:  ## Show this list
	@echo "edgeinspect: frames in, verdicts out"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter (3.10 to 3.13) for a new $(VENV)."
	@echo "  TORCH=cpu takes PyTorch's build for a processor, not the one with gigabytes of CUDA;"
	@echo "  TORCH=no sets up the tests without torch; what needs it skips."

demo: $(DEMO)  ## Set up, then run a whole line on the synthetic camera (FRAMES, RATE, ARGS)
	@$(BIN)/edgeinspect demo --frames $(FRAMES) --rate $(RATE) $(ARGS)

test: $(TEST)  ## Set up, then run every test (ARGS goes to pytest; TORCH=no)
	@$(BIN)/python -m pytest $(ARGS)

check: lint  ## What to run before a commit: lint and the quick tests, under a minute
	@$(BIN)/python -m pytest $(QUICK)

lint: $(TEST)  ## Ruff, mypy and the layers
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports

lint-docs: $(DOCS)  ## Spelling and prose of the documentation and of the program's messages
	@$(BIN)/python docs/style/lint.py
	@$(BIN)/python -m codespell_lib --quiet-level 3

format: $(TEST)  ## Format the sources
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

venv: $(TEST)  ## Only set up

line: $(LINE)  ## Only set up what a line PC wants

# What is installed is what this environment holds: the versions of install/locks, with which the
# tests pass.
install: $(LINE)  ## Install on this PC: PREFIX, units, manual, example (DESTDIR, ARGS)
	@$(BIN)/python install/layout.py --destdir "$(DESTDIR)" --prefix "$(PREFIX)" $(ARGS)
	@if [ "$(DESTDIR)" = / ]; then PREFIX="$(PREFIX)" sh install/debian/postinst configure; fi

deb: $(LINE) $(DOCS)  ## Make a Debian package in dist/ (ARGS goes to install/deb.py)
	@$(BIN)/python install/deb.py $(ARGS)

docs: docs-build  ## Build the documentation site and serve it on this PC (PORT)
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null || { \
	    echo "make docs: port $(PORT) cannot be opened: it is taken, or none. Try PORT=8001" >&2; \
	    exit 1; }
	@echo "http://127.0.0.1:$(PORT)/index.html   (Ctrl-C ends; $(SITE)/index.html opens without a server too)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) $(PORT) 2>/dev/null || \
	    { [ $$? -eq 130 ] || { echo "make docs: the server has ended" >&2; exit 1; }; }

docs-build: $(DOCS)  ## Build the documentation site into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir $(SITE)

release: $(LINE) $(DOCS)  ## Build what a release publishes from this commit, in dist/ (ARGS: --check)
	@$(BIN)/python install/release.py $(ARGS)

lock:  ## Lock the versions of every environment after a change of setup.cfg (ARGS=--upgrade)
	@$(WITH_UV) install/lock.py $(ARGS)

verify-lock:  ## Set up an environment twice in empty folders, compare it with its lock (LOCK=line)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	for each in first second; do \
	    $(MAKE) --no-print-directory VENV="$$folder/$$each" "$$folder/$$each/.ready-$(LOCK)" && \
	    "$$folder/$$each/bin/python" install/lock.py --verify $(LOCK) && \
	    "$$folder/$$each/bin/python" -m pip check && \
	    "$$folder/$$each/bin/python" -m pip freeze --all >"$$folder/$$each.txt" || exit 1; \
	done && cmp "$$folder/first.txt" "$$folder/second.txt" && sha256sum <"$$folder/first.txt"

floors:  ## Test the lowest versions that setup.cfg allows (PYTHON=python3.10; report: build/floors.md)
	@$(RANGES) floors --python $(PYTHON) $(ARGS)

newest:  ## Test the newest version of everything (report: build/newest.md)
	@$(RANGES) newest --python $(PYTHON) --torch "$(PIP_TORCH)" $(ARGS)

clean:  ## Remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	    .import_linter_cache

# A virtual environment that exists and starts is kept, whoever made it.
define ensure-venv
	@$(BIN)/python -c 'import pip' 2>/dev/null || { \
	    version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); \
	    case "$$version" in 3.1[0-3]) ;; *) \
	        if [ "$$version" ]; then found="is Python $$version"; else found="does not run"; fi; \
	        echo "make: edgeinspect needs Python 3.10 to 3.13; $(PYTHON) $$found." \
	             "Name one that this PC has: make PYTHON=python3.N $(MAKECMDGOALS)" >&2; \
	        exit 1;; \
	    esac; \
	    $(PYTHON) -m venv --clear $(VENV) || { \
	        echo "make: $(PYTHON) cannot make a virtual environment;" \
	             "on Debian and Ubuntu: apt-get install python3-venv" >&2; \
	        exit 1; }; }
endef

# The versions of a lock, their files by hash, none built from source; then the project itself
# (without the warnings of setuptools, which are for its developers).
define install-locked
	@$(INSTALL) --require-hashes --only-binary :all: --requirement install/locks/build.txt
	@$(INSTALL) --require-hashes --only-binary :all: --requirement install/locks/$(1).txt
	@PYTHONWARNINGS=ignore $(INSTALL) --no-deps --no-build-isolation --editable .
endef

PROJECT := setup.cfg pyproject.toml install/locks/build.txt

$(DEMO): $(PROJECT) install/locks/demo.txt
	$(ensure-venv)
	@echo "Setting up $(VENV) for the demo (the first time takes a minute or two) ..."
	$(call install-locked,demo)
	@touch $@

$(LINE): $(PROJECT) install/locks/line.txt
	$(ensure-venv)
	@echo "Setting up $(VENV) for a line PC (the first time takes a minute or two) ..."
	$(call install-locked,line)
	@touch $(DEMO) $@

$(VENV)/.ready-test-without-torch: $(PROJECT) install/locks/test.txt
	$(ensure-venv)
	@echo "Setting up $(VENV) for the tests (the first time takes a few minutes) ..."
	$(call install-locked,test)
	@touch $(DEMO) $(LINE) $(DOCS) $@

$(DOCS): $(PROJECT) install/locks/docs.txt
	$(ensure-venv)
	@echo "Setting up $(VENV) for the documentation (the first time takes a minute) ..."
	$(call install-locked,docs)
	@touch $@

# torch comes last: what it requires is there, so that only its own build is chosen by pip.
$(VENV)/.ready-test: $(VENV)/.ready-test-without-torch
	@$(INSTALL) $(PIP_TORCH)
	@touch $@
