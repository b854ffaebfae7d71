# demo, test, lint, docs, bench, bench-all: each installs first what it needs into $(VENV), if that is missing or
# older than pyproject.toml: demo the package alone, the others the tools and extras too. The package is
# installed as a user would install it (a wheel, not the working folder).

VENV ?= .venv
PYTHON ?= python3
OUT ?= out/demo
WORKERS ?= 2
PYTEST_FLAGS ?=
# Extra flags for pip, for instance --extra-index-url https://download.pytorch.org/whl/cpu
PIP_FLAGS ?=

BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The interpreter that is in $(VENV), or will be, and the versions that its tests passed with.
VERSION := $(shell $(or $(wildcard $(BIN)/python),$(PYTHON)) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := constraints/$(VERSION).txt
# Bytecode is written when a module is first imported: most of what is installed never is.
INSTALL := $(PIP) install --quiet --no-compile --no-build-isolation $(PIP_FLAGS) -c $(CONSTRAINTS)
CORE := $(VENV)/.core-installed
TOOLS := $(VENV)/.tools-installed
PACKAGE := $(VENV)/.package-installed
DOCS_VENV ?= .venv-docs
DOCS := $(DOCS_VENV)/.docs-installed
FRESH := $(VENV)/.package-is-fresh
SOURCES := $(shell find spie_robo envs policies -type f ! -path '*/__pycache__/*' 2>/dev/null)
CHECKED := spie_robo envs policies plugins tests examples benchmarks docs setup.py

.PHONY: install demo test lint format docs bench bench-all release-check clean

install: $(PACKAGE)

$(CONSTRAINTS):
	@echo "Python $(VERSION): expected one of $(patsubst constraints/%.txt,%,$(wildcard constraints/3.*.txt)). Choose it: make PYTHON=python3.11" >&2
	@exit 1

$(CORE): pyproject.toml setup.py $(CONSTRAINTS)
	@echo "Installing the package and what it needs into $(VENV), for Python $(VERSION): a minute or so, on 3.12 and later 3 GB of CUDA more."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@rm -rf build
	@$(PIP) install --quiet $(PIP_FLAGS) -c $(CONSTRAINTS) setuptools
	@$(INSTALL) .
	@touch $@ $(FRESH)

# panda-gym requires the name `pybullet`, which from 3.12 on is installed by another.
$(TOOLS): $(CORE)
	@echo "Installing test tools, formats, Ray, Mitsuba and the other extras into $(VENV): a minute or two."
	@rm -rf build
	@$(INSTALL) ".[photoreal,dev]"
	@test $(VERSION) = 3.11 || $(INSTALL) --no-deps panda-gym
	@touch $@

# Sources changed, dependencies did not: a few seconds. build/ would keep files that are gone.
$(PACKAGE): $(CORE) $(SOURCES) README.md LICENSE
	@rm -rf build
	@test -e $(FRESH) || { echo "Installing the package itself."; \
		$(PIP) install --quiet --no-deps --no-build-isolation --force-reinstall .; }
	@rm -rf build $(FRESH)
	@touch $@

demo: $(PACKAGE)
	@echo "Running the demo: three episodes of a robot arm, edited, judged and recorded; half a minute or so."
	$(BIN)/spie-robo demo --out $(OUT)

# One thread a worker: torch would otherwise start one a core in each of them.
test: $(TOOLS) $(PACKAGE)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) $(PYTEST_FLAGS)

# mypy runs outside the working folder, where spie_robo.envs is spelled envs.
lint: $(TOOLS) $(PACKAGE)
	$(BIN)/ruff check $(wildcard $(CHECKED))
	$(BIN)/ruff format --check $(wildcard $(CHECKED))
	cd $(VENV) && $(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache \
		--python-executable $(BIN)/python -p spie_robo

format:
	$(BIN)/ruff check --fix $(wildcard $(CHECKED))
	$(BIN)/ruff format $(wildcard $(CHECKED))

# The site reads the package's source without importing it, so its environment has no torch.
$(DOCS): pyproject.toml constraints/docs.txt
	@echo "Installing MkDocs into $(DOCS_VENV): half a minute."
	@test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python docs/site/requirements.py pyproject.toml | xargs \
		$(DOCS_VENV)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints/docs.txt
	@touch $@

docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet
	@echo "out/site/index.html: open it in a browser."

# Tables and plot of the robustness benchmark, from the cells of runs/ or else of benchmarks/results/.
bench: $(TOOLS) $(PACKAGE)
	$(BIN)/python benchmarks/robustness.py --table
	$(BIN)/python benchmarks/robustness.py --table --color 0.3 --out runs/robustness_color
	$(BIN)/python benchmarks/robustness.py --table --out runs/robustness_steel --name robustness_steel
	$(BIN)/python benchmarks/robustness.py --table --out runs/robustness_pickplace --name robustness_pickplace

# Every script of benchmarks/ with its own defaults, which takes days; docs/results has the commands
# that its figures come from. Goes on after one that fails, for instance for want of rendered pairs.
bench-all: $(TOOLS) $(PACKAGE)
	@failed=""; for script in $$(grep -l __main__ benchmarks/*.py); do \
		echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

# Before a release: builds both distributions, checks them, and runs the demo from the wheel alone. Minutes.
release-check:
	$(PYTHON) benchmarks/tools/release_check.py

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache $(PACKAGE) $(TOOLS) $(CORE) $(DOCS)
