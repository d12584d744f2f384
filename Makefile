# Every recipe quotes its paths: a clone may lie in a folder with spaces.
PY := .venv/bin/python
TEST_WORKERS ?= 2

.PHONY: help venv search-venv test-venv demo search-demo test test-gpu test-faults test-photos test-parity test-matrix measure-rounding lint docs clean

help: ## Show the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/:/'

venv: ## Make .venv with everything mmpanoptic needs
	@bash tools/dev/setup_env.sh runtime

search-venv: ## The same with the engine of search and tuning
	@bash tools/dev/setup_env.sh search

test-venv: ## The same with the test tools
	@bash tools/dev/setup_env.sh tests

search-demo: search-venv ## Search an architecture in miniature: all stages (about 5 minutes on 2 cores)
	@$(PY) tools/dev/search_demo.py

demo: venv ## Train, test and look at a tiny model on generated data (about 4 minutes on 2 cores)
	@$(PY) tools/dev/demo.py

test: test-venv ## Lint, type check and run the tests
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@$(PY) -m mypy
	@CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(PY) -m pytest -n $(TEST_WORKERS) --dist loadfile

test-gpu: test-venv ## On a GPU: tests, equality with the CPU, memory and speed, in 12 minutes (skipped without one)
	@$(PY) tools/dev/gpu_check.py

test-faults: test-venv ## Kill, stop, damage and fill up: the long form of tests/faults (under 15 minutes on 2 cores)
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests/faults -m "not gpu" -n $(TEST_WORKERS) --dist load

test-photos: test-venv ## Real images, where they and the weights are: systems learn two photographs by heart; the shipped models
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests/tools/test_real_photographs.py tests/apis/test_shipped_models.py -m slow -n $(TEST_WORKERS)

test-parity: test-venv ## The parity tests alone; SETTING=NAME rounds as another processor does
	@setting=$$($(PY) -m tests.parity.settings $(SETTING)) && OMP_NUM_THREADS=1 env $$setting \
		$(PY) -m pytest tests/parity tests/ops/test_parity.py -n $(TEST_WORKERS) --dist loadfile

test-matrix: test-venv ## Import, smoke and parity tests beside other versions; goes on where it was. SETS="--big" or names
	@OMP_NUM_THREADS=1 $(PY) tools/dev/test_matrix.py $(SETS)

measure-rounding: test-venv ## Measure the tolerances of the parity tests anew (hours)
	@$(PY) -m tests.parity.make_fixtures work_dirs/fixtures
	@$(PY) -m tests.parity.measure_rounding --fixtures work_dirs/fixtures

lint: test-venv ## Mend what ruff can mend
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

docs: test-venv ## Build docs/_build/html; a warning is an error
	@$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs: open docs/_build/html/index.html"

clean: ## Remove what the commands made, except .venv and work_dirs
	@rm -rf build dist docs/_build .pytest_cache .mypy_cache .ruff_cache *.egg-info
