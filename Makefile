# One place for every command of the project; `make` alone lists them.
VENV   := .venv
PYTHON := $(VENV)/bin/python
READY  := $(VENV)/.ready
JOBS   := 2
SECONDS := 10

.PHONY: help install demo test test-most test-all fuzz browser latex check bench clean

help:
	@echo "make install   make $(VENV) with the supsup command, exact versions"
	@echo "make demo      ten tasks on scikit-learn's digits: local Ray, MLflow, Parquet in runs/"
	@echo "make test      the quick tests; SUPSUP_DATA=<folder with mnist/> adds those on real data"
	@echo "make test-most crashes, clusters, the documents' commands and a browser too, in a quarter of an hour"
	@echo "make test-all  everything but the soak and fuzz tests"
	@echo "make fuzz      inputs that are generated or damaged; SECONDS=60 for each property"
	@echo "make browser   what the tests in a browser need"
	@echo "make latex     what the test of LaTeX tables needs, on Debian"
	@echo "make check     formatting, lint, types"
	@echo "make bench     speed as ratios to this machine's limits"

install: $(READY)

$(READY): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(VENV)/bin/supsup run sweeps/digits_10.yaml

# JOBS processes; tests/conftest.py says which tests stay together.
PYTEST := $(PYTHON) -m pytest --numprocesses $(JOBS) --dist loadgroup --no-loadscope-reorder

test: $(READY)
	$(PYTEST) -m "not slow and not soak and not fuzz"

test-most: $(READY)
	$(PYTEST) -m "not long and not soak and not fuzz"

test-all: $(READY)
	$(PYTEST)

# In one process: each property takes its time anyway, and says how many examples that was enough for.
fuzz: $(READY)
	SUPSUP_FUZZ_S=$(SECONDS) $(PYTHON) -m pytest -m fuzz -s tests/fuzz

# What the tests in a browser need; without it they skip and say so.
browser: $(READY)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,browser]'
	command -v chromium || command -v chromium-browser || $(PYTHON) -m playwright install chromium

# What the test that compiles a table of `supsup compare` needs; without it it skips and says so.
latex:
	command -v pdflatex || { sudo apt-get update && \
	sudo apt-get install --yes --no-install-recommends texlive-latex-base texlive-latex-recommended; }

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
