# Every target makes the virtual environment it needs; nothing but python3 (3.11 or newer), git and make is presumed.

PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= 2
PYTEST_ARGS ?=
FUZZ_MINUTES ?= 10

VENV := .venv
BIN := $(VENV)/bin
FLOORS := launch configs trainer models kernels data_pipelines
BENCHMARKS := $(wildcard kernels/*/benchmark.py)

# A GPU's figures are taken in $(VENV); where wheels have been carried, in an environment of them over PYTHON's own torch.
BENCH_RUNS ?= trimodal_320m trimodal_3b
BENCH_ARGS ?= --micro-batches 4
BENCH_MINUTES ?= 5
BENCH_OUT ?=
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
WHEELS := .wheels
WHEELS_PYTHON ?= 3.12
OFFLINE := .venv-offline
BENCH_VENV := $(if $(wildcard $(WHEELS)/*.whl),$(OFFLINE),$(VENV))

.DEFAULT_GOAL := help
.PHONY: help demo test test-resume test-matrix test-slurm test-convert test-serve drills fuzz lint format studies \
	bench bench-data bench-gpu bench-gpu-kernels bench-gpu-steps wheels clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## train, sample and show the small model over text, image and audio: runs/demo/report.html
	$(BIN)/triptych demo

test: lint ## lint, then every test that needs neither a GPU nor minutes, with coverage per floor
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --cov --cov-report= $(PYTEST_ARGS)

test-resume: $(VENV)/.ready-dev ## kill and resume 20 runs at random moments, in changing layouts: trainer/results/resume.md
	OMP_NUM_THREADS=1 $(BIN)/python tests/trainer/resume/kill_repeatedly.py --repetitions 20 --table trainer/results/resume.md

drills: $(VENV)/.ready-dev ## 100 drills of kills, stops, full disks, damage, NaN, signals, cut networks: trainer/results/drills.md
	OMP_NUM_THREADS=1 $(BIN)/python tests/drills/run_drills.py --drills 100 --table trainer/results/drills.md

test-matrix: $(VENV)/.ready-dev ## every legal layout of 1, 2 and 4 processes against one: trainer/results/layout_matrix.md
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/trainer/layouts/layout_matrix.py trainer/results/layout_matrix.md

test-slurm: $(VENV)/.ready-dev ## jobs on a Slurm of its own on this machine (root, Debian's slurm-wlm and munge): minutes
	OMP_NUM_THREADS=1 TRIPTYCH_TEST_SLURM=1 $(BIN)/pytest tests/launch/slurm $(PYTEST_ARGS)

test-convert: $(VENV)/.ready-dev ## converted checkpoints in an environment without triptych, and those of other engines: minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest --slow tests/launch/conversion tests/models/hugging_face \
		tests/trainer/checkpoint/foreign $(PYTEST_ARGS)

test-serve: $(VENV)/.ready-dev ## every tab of the page in a headless Chromium
	OMP_NUM_THREADS=1 $(BIN)/pytest --slow tests/launch/serving $(PYTEST_ARGS)

fuzz: $(VENV)/.ready-dev ## feed the readers of raw data and shards FUZZ_MINUTES of mutated files
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz_readers.py --minutes $(FUZZ_MINUTES)

lint: $(VENV)/.ready-dev .pyright/triptych ## ruff, the floors (import-linter), types (pyright)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright --warnings

format: $(VENV)/.ready-dev ## sort imports, mend what ruff can mend, format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

studies: $(VENV)/.ready ## the toys behind the scaling rules, minutes: trainer/scaling/results/
	for study in quadratic_adamw second_moment sgd_ema adam_ema; do \
		OMP_NUM_THREADS=1 $(BIN)/python -P -m triptych.trainer.scaling.study.$$study || exit 1; \
	done

bench: $(VENV)/.ready-dev ## each kernel against a peer, ratios printed
	@$(if $(BENCHMARKS),,echo "no kernels/*/benchmark.py yet: nothing to measure")
	@for file in $(BENCHMARKS); do \
		echo "== $$file"; $(BIN)/python -m triptych.$$(echo "$${file%.py}" | tr / .) || exit 1; \
	done

bench-data: $(VENV)/.ready ## the token stream against the peers that are installed beside it: data_pipelines/stream/benchmark/
	OMP_NUM_THREADS=1 $(BIN)/python -P -m triptych.data_pipelines.stream.benchmark

bench-gpu: bench-gpu-kernels bench-gpu-steps ## bench-gpu-kernels, then bench-gpu-steps

bench-gpu-kernels: $(BENCH_VENV)/.ready ## the GPU tests, then attention against its peers: kernels/flash_sigmoid/results/
	@$(BENCH_VENV)/bin/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() \
		else "torch finds no CUDA device, and this measures on one; on a CPU: make bench")'
	@out=$(or $(BENCH_OUT),kernels/flash_sigmoid/results); mkdir -p $$out; \
	.ci/gpu_tests $(BENCH_VENV)/bin/python $$out; tests=$$?; \
	$(BENCH_VENV)/bin/python -P -m triptych.kernels.flash_sigmoid.benchmark --device cuda --minutes $(BENCH_MINUTES) \
		--commit $(COMMIT) --out $$out && exit $$tests

bench-gpu-steps: $(BENCH_VENV)/.ready ## profile training steps of BENCH_RUNS with BENCH_ARGS, made-up data: trainer/results/
	@for run in $(BENCH_RUNS); do \
		$(BENCH_VENV)/bin/python -P -m triptych.launch.profile $$run $(BENCH_ARGS) --commit $(COMMIT) \
			--out $(or $(BENCH_OUT),trainer/results) || exit 1; \
	done

wheels: $(VENV)/.ready ## carry what a machine without network needs beside torch: .wheels/, for WHEELS_PYTHON
	$(BIN)/python .ci/wheels.py $(WHEELS) --python $(WHEELS_PYTHON)

clean: ## remove what was built and cached; the environment, runs/ and data/ stay
	rm -rf .pyright build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
	find $(FLOORS) tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# torch first and pinned: left to itself, pip takes the newest and gigabytes of CUDA libraries with it.
$(VENV)/.ready: pyproject.toml setup.py | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(OFFLINE)/.ready: pyproject.toml setup.py .ci/offline_environment $(wildcard $(WHEELS)/*.whl)
	.ci/offline_environment $(PYTHON) $(WHEELS) $(OFFLINE)
	@touch $@

# Pyright does not see through an editable install that maps folders; these links show it the installed names.
.pyright/triptych: Makefile
	rm -rf $@
	mkdir -p $@
	for floor in $(FLOORS); do ln -s ../../$$floor $@/$$floor; done
