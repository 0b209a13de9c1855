# One place for every command of the project; `make` alone lists them.
VENV   := .venv
PYTHON := $(VENV)/bin/python
READY  := $(VENV)/.ready

.PHONY: help install demo test test-units test-runs check bench clean

help:
	@echo "make install   make $(VENV) with the supsup command, exact versions"
	@echo "make demo      ten tasks on scikit-learn's digits: local Ray, MLflow, Parquet in runs/"
	@echo "make test      all tests; SUPSUP_DATA=<folder with mnist/> adds those on real data"
	@echo "make check     formatting, lint, types"
	@echo "make bench     speed as ratios to this machine's limits"

install: $(READY)

$(READY): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(VENV)/bin/supsup run sweeps/digits_10.yaml

# Two at once: what starts clusters and mostly waits for them, and all the rest.
CLUSTER_TESTS := tests/browser tests/cluster \
  $(addprefix tests/integration/test_,crash.py object_store.py streams.py) \
  $(addprefix tests/orchestrator/test_,executors.py preflight.py ray_auth.py search.py)

test: $(READY)
	@$(MAKE) --no-print-directory --jobs=2 test-units test-runs

# Shown whole when it ends, so that the lines of the other half stay readable.
test-units: $(READY)
	@$(PYTHON) -m pytest $(addprefix --ignore=,$(CLUSTER_TESTS)) > .test-units.log 2>&1; code=$$?; \
	cat .test-units.log; rm -f .test-units.log; exit $$code

test-runs: $(READY)
	$(PYTHON) -m pytest $(CLUSTER_TESTS)

check: $(READY)
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

bench: $(READY)
	$(PYTHON) perf/bench.py
	$(PYTHON) perf/inference.py
	$(PYTHON) perf/inference.py --memory 2500
	$(PYTHON) perf/inference.py --from-disk 20000

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
