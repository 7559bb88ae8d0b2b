# The project's commands. Everything is installed into .venv by plain pip, at the versions of constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# training_curve first: the trial whose weights it keeps along the way is the one that most others share.
SWEEPS := training_curve data_quantity decoding shuffle_seed recipe instruct model_size data_type
STORAGE ?= runs

# Two processes: one takes the tests that start a Ray, the other all else (tests/conftest.py).
PARALLEL := -n 2 --no-loadscope-reorder

.PHONY: quickstart sweeps bench test test-all test-faults test-gpu gpu-bundle lint unit install clean

quickstart: .venv/installed  ## install, then run the first sweep on the embedded model: minutes, no GPU, no network
	$(BIN)/python sweeps/data_quantity.py

sweeps: .venv/installed  ## every experiment of the paper on the embedded models, at scale laptop
	for sweep in $(SWEEPS); do $(BIN)/python sweeps/$$sweep.py --storage $(STORAGE) \
	  $$(test $$sweep = data_type && echo --seeds 0,1) || exit 1; done

install: .venv/installed

test: lint unit  ## lint, types, unit tests and one short real run

test-all: lint  ## everything that needs no GPU
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not gpu and not faults"

test-faults: .venv/installed-test  ## kills, full disks and states in whole matrices; about a quarter of an hour
	$(BIN)/python -m pytest -q $(PARALLEL) -m faults

test-gpu: .venv/installed-test  ## what needs an NVIDIA GPU; skipped, with the reason, where there is none
	$(BIN)/python -m pytest -q -rs -m gpu tests/gpu

gpu-bundle: .venv/installed-test  ## the project for a GPU machine without a network; PYTHON_VERSION=3.12, WITH=polars
	$(BIN)/python benchmarks/gpu_bundle.py $(addprefix --python-version ,$(PYTHON_VERSION)) $(addprefix --with ,$(WITH))

bench: .venv/installed-test  ## what is claimed about speed and memory, beside alternatives; needs no GPU, takes over an hour
	$(BIN)/python sweeps/data_quantity.py --storage $(STORAGE)
	for each in launches "whole_sweep --made $(STORAGE)" "memory --made $(STORAGE)" training state corpus many_trials scoring \
	  "generation --storage $(STORAGE)"; do \
	  set -- $$each; name=$$1; shift; $(BIN)/python benchmarks/$$name.py "$$@" || exit 1; done
	$(BIN)/python benchmarks/results.py

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: .venv/installed-test
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not gpu and not faults and not integration"

# Torch first: what is installed already is not replaced, so a CPU or CUDA build put here by hand stays.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch setuptools
	$(PIP) -e .
	touch $@

.venv/installed-test: .venv/installed
	$(PIP) -e ".[test]"
	touch $@

clean:
	rm -rf .venv
