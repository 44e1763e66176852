# Each command sets up its own environment on a fresh machine with Python 3.11 or later.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONSTRAINTS ?= constraints.txt
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test hostile lowest coverage slow reliability check lint types docs notebooks package bench tiny clean

help:
	@echo "make demo   set up and run the demo, offline"
	@echo "make test   set up and run the tests"
	@echo "make hostile  the tests that the environment could change, in a hostile one"
	@echo "make lowest  the tests with the lowest versions that pyproject.toml allows"
	@echo "make coverage  the tests, and which lines they miss"
	@echo "make check  lint, types, docs and notebooks"
	@echo "make package  build, and try the wheel in an empty environment"
	@echo "make slow   the tests that take minutes"
	@echo "make reliability  hostile and odd cases by the thousand; writes docs/reliability.md"
	@echo "make tiny   train the built-in model anew (two hours on two cores)"
	@echo "make bench  measure, and print the tables of docs/benchmarks.md"

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	touch $(READY)

# Threads of torch that wait would else spin for long, which is slow beside other work.
demo: export GOMP_SPINCOUNT ?= 5000
demo: $(READY)
	$(BIN)/remotesam-geo demo

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(OPTIONS)

# Proxies that lead nowhere, LC_ALL=C, another time zone, no home to write to, options of GDAL: see tests/hostile.py.
hostile: $(READY)
	$(BIN)/python tests/hostile.py -n $(WORKERS) --dist worksteal tests/test_environment.py tests/test_dependencies.py \
	    tests/model/test_weights_hub.py tests/model/test_processor.py tests/net/test_auth.py \
	    tests/stac/test_items.py

# Old releases on newer ones of what they need: their own warnings of deprecation are no news. Torch stays at the one
# version with a small build for CPUs.
lowest:
	$(MAKE) test VENV=$(VENV)-lowest CONSTRAINTS=constraints-lowest.txt \
	    OPTIONS="-W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning $(OPTIONS)"

# Watching every line makes the tests half as fast again.
coverage:
	$(MAKE) test OPTIONS="--cov --cov-report=term"

slow: $(READY)
	REMOTESAM_GEO_CASES=2000 $(BIN)/python -m pytest -n $(WORKERS) -m '(slow or campaign) and not gpu and not network'

# Runs the campaigns at full length and writes their counts to docs/reliability.md.
reliability: $(READY)
	$(BIN)/python benchmarks/reliability.py

check: lint types docs notebooks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: $(READY)
	$(BIN)/python tests/run_notebooks.py

package: $(READY)
	rm -rf dist build
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(PYTHON) -m venv build/empty
	build/empty/bin/pip install --quiet --disable-pip-version-check -c constraints.txt "$$(ls $(CURDIR)/dist/*.whl)[plot]"
	cd build/empty && bin/remotesam-geo --version && bin/remotesam-geo demo --out demo

tiny: $(READY)
	$(BIN)/remotesam-geo train runs/tiny --steps 4000 --pictures 4 --visual-steps 100

bench: $(READY)
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist site .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
