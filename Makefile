# Everything sets itself up in .venv on a machine that has Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# A checkpoint on every path (9xx), a list of startable functions (114), no async without await (124: a double needs
# it) cost more than they find.
NOT_FOR_US := ASYNC9,ASYNC114,ASYNC124

.PHONY: help demo test lint unit simulate bench bench-check clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	  "streamsvc needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,foreign]'
	@touch $@

# Optional: where there is no wheel of it for this machine, the test that needs it is skipped and says so.
$(VENV)-hftbacktest/stamp: $(VENV)/pyvenv.cfg tests/requirements-hftbacktest.txt
	$(PYTHON) -m venv $(VENV)-hftbacktest
	-$(VENV)-hftbacktest/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
	  -r tests/requirements-hftbacktest.txt
	@touch $@

demo: $(VENV)/run.stamp  ## record a simulated exchange for a minute and verify what was recorded
	$(BIN)/streamsvc demo

test: lint bench-check unit  ## everything that must hold

lint: $(VENV)/test.stamp  ## style, types, Trio's mistakes
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/flake8-async --disable=$(NOT_FOR_US) $$(git ls-files '*.py')

unit: $(VENV)/test.stamp $(VENV)-hftbacktest/stamp  ## the tests
	$(BIN)/pytest $(PYTEST_ARGS)

simulate: $(VENV)/test.stamp  ## seeds of the simulation: SEED=7, or SEEDS=1..1000 on all cores
	$(BIN)/python tests/simulation/simulate.py $(if $(SEED),$(SEED),$(or $(SEEDS),1..100)) $(if $(JOBS),--jobs $(JOBS))

bench: $(VENV)/test.stamp  ## beside its peers, in one run; docs/performance.md has the others
	$(BIN)/python tests/benchmarks/capture.py

bench-check: $(VENV)/test.stamp  ## instructions of three hot paths, against those that are written down
	$(BIN)/python tests/benchmarks/check_instructions.py

clean:  ## remove the virtual environment
	rm -rf $(VENV) $(VENV)-hftbacktest
