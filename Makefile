# `make help` lists what there is. Everything sets itself up the first time and starts at once afterwards.

PYTHON ?= python3
ARGS ?=

# What draws must work without torch, and without what serves, also where somebody has run the tests.
BASE := .venv
SERVE := .venv-serve
DEV := .venv-dev
# An installation builds it, where there is a C compiler.
COMPILED := setup.py $(wildcard pochade/engines/attention_kernel/*.[ch])
INSTALL := -m pip --require-virtualenv --disable-pip-version-check install --quiet --constraint constraints.txt

# The prompt reaches the program through the environment, so that neither make nor the shell reads it.
override export PROMPT := $(value PROMPT)

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help draw serve test test-slow check format bench bench-all clean

help: ## show this list
	@echo 'make draw PROMPT="a red apple"   draw a picture; its path is the last line'
	@echo '                                 ARGS="--seed 7 --steps 20 -o apple.png" for more'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name does; do printf '%-32s %s\n' "$$name" "$$does"; done
	@echo 'Another Python (3.11 or newer): make PYTHON=python3.12 ...'

draw: $(BASE)/.ready
	@if [ -z "$$PROMPT" ]; then echo 'usage: make draw PROMPT="a red apple"' >&2; exit 2; fi
	@$(BASE)/bin/python -m pochade draw $(ARGS) -- "$$PROMPT"

serve: $(SERVE)/.ready ## draw in a browser, at http://127.0.0.1:7860; ARGS="--port 8000" for more
	@$(SERVE)/bin/python -m pochade serve $(ARGS)

test: $(DEV)/.ready ## run the tests; ARGS="tests/images -k text" for some of them
	@$(DEV)/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile $(ARGS)

test-slow: $(DEV)/.ready ## run all tests, those that take minutes too; then say which files they reach least
	@rm -f .coverage .coverage.*
	@$(DEV)/bin/coverage run -m pytest -m '' $(ARGS); status=$$?; \
		$(DEV)/bin/coverage combine --quiet && echo && echo 'lines that were run: the ten lowest files, and all' && \
		$(DEV)/bin/coverage report --sort=cover | sed -n '1,12p;$$p'; exit $$status

check: $(DEV)/.ready ## lint, formatting, types, layers
	@$(DEV)/bin/ruff check
	@$(DEV)/bin/ruff format --check
	@$(DEV)/bin/mypy
	@$(DEV)/bin/mypy --allow-untyped-calls --allow-untyped-defs --allow-any-generics bench examples
	@$(DEV)/bin/python -m pytest --quiet tests/test_layers.py tests/test_package.py

format: $(DEV)/.ready ## put the code into its standard form
	@$(DEV)/bin/ruff check --fix-only --quiet
	@$(DEV)/bin/ruff format

bench: $(DEV)/.ready ## measure beside other software; ARGS="--shapes xl --trace" for more
	@$(DEV)/bin/python bench/compare.py $(ARGS)

bench-all: $(DEV)/.ready ## run every benchmark in bench/, one after another
	@for script in bench/*.py; do echo "$$script"; $(DEV)/bin/python "$$script" $(ARGS) || exit 1; done

clean: ## remove the environments and caches that make and the checks made
	rm -rf $(BASE) $(SERVE) $(DEV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build *.egg-info
	rm -f pochade/engines/attention_kernel/attention.so*

$(BASE)/.ready: pyproject.toml constraints.txt $(COMPILED)
	$(call environment,$(BASE),.)

$(SERVE)/.ready: pyproject.toml constraints.txt $(COMPILED)
	$(call environment,$(SERVE),.[serve,hub])

# sd-prompt-reader asks for an old pillow for its window; its reader, which is all that a test wants, does not.
$(DEV)/.ready: pyproject.toml constraints.txt $(COMPILED)
	$(call environment,$(DEV),.[dev])
	@$(DEV)/bin/python $(INSTALL) --no-deps sd-prompt-reader >&2

# $(1): the folder, $(2): what to install into it
define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pochade needs Python 3.11 or newer, and \
	$(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
@echo 'setting up $(1); this happens once' >&2
@$(PYTHON) -m venv $(1)
@$(1)/bin/python $(INSTALL) --editable '$(2)' >&2
@touch $@
endef
