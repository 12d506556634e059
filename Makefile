# Two commands do everything on a fresh machine: `make report` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
OUT := reports/quickstart

.PHONY: report test test-fast install format check notebooks bench fuzz torture cluster zoo docs clean
.DEFAULT_GOAL := report

report: $(READY)  ## the quickstart ablation: notebooks, records, one HTML report
	$(BIN)/filtersub ablate quickstart --out $(OUT)

# Two processes of one thread each: most of the time goes into starting other processes and importing torch there.
# Compiled tests are kept also where that is switched off, as in many containers: else each process compiles 300 files anew.
test: $(READY)  ## style, then all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# The mathematics: no training, no process, notebook or browser. What else is left out is in CONTRIBUTING.md.
FAST := architecture kernels sparse_coding lasso linear_codes pursuit constrained \
	dictionary dictionary_initial dictionary_ksvd decomposition decomposition_settings decomposition_expansion \
	method methods_low_rank methods_standardised tuning tuning_math recipes records
test-fast: $(READY)  ## the mathematics alone, for the inner loop; not the whole check
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(FAST:%=tests/test_%.py)

install: $(READY)

# The stamp is touched last, so an interrupted installation is done again.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "filtersub needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 2; }
	@echo "1 of 3: a Python environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@echo "2 of 3: filtersub and what it needs, from the package index (minutes, mostly torch; each package is named as it comes)"
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[attribution,datasets,dev,diffusion,lab,spams,tensor,tensorboard]'
	@echo "3 of 3: kernels for this processor (about a minute; they are kept)"
	$(BIN)/filtersub compile-kernels
	@touch $(READY)
	@echo "Installed. Say '. $(BIN)/activate' to use the command filtersub in this shell, then: filtersub --help"

format: $(READY)  ## rewrite the code in the project's style
	$(BIN)/python docs/site/settings_page.py
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(READY)  ## style only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

notebooks: $(READY)  ## only the tests that execute notebooks
	$(BIN)/python -m pytest -m notebook

fuzz: $(READY)  ## 2,000 random inputs for settings, files, records and options; `make test` asks 200
	FILTERSUB_FUZZ=2000 $(BIN)/python -m pytest tests/test_fuzz.py

torture: $(READY)  ## kill every command at 50 random moments, run it again, compare; hours
	$(BIN)/python tests/torture.py --kills 50

cluster: $(READY)  ## an ablation on workers with networks and files of their own; Linux, as root; minutes
	$(BIN)/python tests/cluster.py

zoo: $(READY)  ## a hundred architectures through every operation, and crossings with other tools; writes docs/zoo.md; hours
	OMP_NUM_THREADS=1 $(BIN)/python tests/zoo.py

docs: $(READY)  ## the documentation as a site in build/docs/html, which opens from disk
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python docs/site/build.py build/docs

bench: $(READY)  ## every benchmark, both sides in one process, ratios printed
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## what `make report` and `make test` made, but not the environment
	rm -rf $(OUT) build/docs .pytest_cache .ruff_cache
