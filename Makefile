# demo, test, lint, bench, bench-all: each makes $(VENV) first if it is missing or older than the sources.
# The package is installed into it as a user would install it (a wheel, not the working folder).

VENV ?= .venv
PYTHON ?= python3
OUT ?= out/demo
WORKERS ?= 2
PYTEST_FLAGS ?=
# Extra flags for pip, for instance --extra-index-url https://download.pytorch.org/whl/cpu
PIP_FLAGS ?=

BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEPENDENCIES := $(VENV)/.dependencies-installed
PACKAGE := $(VENV)/.package-installed
SOURCES := $(shell find spie_robo envs policies -type f ! -path '*/__pycache__/*' 2>/dev/null)
CHECKED := spie_robo envs policies tests examples benchmarks

.PHONY: install demo test lint format bench bench-all clean

install: $(PACKAGE)

$(DEPENDENCIES): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -rf build
	$(PIP) install --quiet $(PIP_FLAGS) -c constraints.txt setuptools
	$(PIP) install --quiet $(PIP_FLAGS) -c constraints.txt --no-build-isolation ".[photoreal,dev]"
	touch $@

# Sources changed, dependencies did not: a few seconds. build/ would keep files that are gone.
$(PACKAGE): $(DEPENDENCIES) $(SOURCES) README.md LICENSE
	rm -rf build
	$(PIP) install --quiet --no-deps --no-build-isolation --force-reinstall .
	rm -rf build
	touch $@

demo: $(PACKAGE)
	$(BIN)/spie-robo demo --out $(OUT)

# One thread a worker: torch would otherwise start one a core in each of them.
test: $(PACKAGE)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) $(PYTEST_FLAGS)

# mypy runs outside the working folder, where spie_robo.envs is spelled envs.
lint: $(PACKAGE)
	$(BIN)/ruff check $(wildcard $(CHECKED))
	$(BIN)/ruff format --check $(wildcard $(CHECKED))
	cd $(VENV) && $(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache \
		--python-executable $(BIN)/python -p spie_robo

format:
	$(BIN)/ruff check --fix $(wildcard $(CHECKED))
	$(BIN)/ruff format $(wildcard $(CHECKED))

# Tables and plot of the robustness benchmark, from the cells of runs/ or else of benchmarks/results/.
bench: $(PACKAGE)
	$(BIN)/python benchmarks/robustness.py --table
	$(BIN)/python benchmarks/robustness.py --table --color 0.3 --out runs/robustness_color
	$(BIN)/python benchmarks/robustness.py --table --out runs/robustness_steel --name robustness_steel
	$(BIN)/python benchmarks/robustness.py --table --out runs/robustness_pickplace --name robustness_pickplace

# Every script of benchmarks/ with its own defaults, which takes days; docs/benchmarks.md has the commands
# that its figures come from. Goes on after one that fails, for instance for want of rendered pairs.
bench-all: $(PACKAGE)
	@failed=""; for script in $$(grep -l __main__ benchmarks/*.py); do \
		echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache $(PACKAGE) $(DEPENDENCIES)
