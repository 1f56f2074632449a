# Two commands do everything on a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
INTERPRETER := $(VENV)/.interpreter
# Two workers of one thread each: with more threads than cores every parallel region waits for its turn.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: help setup demo test test-fast check build clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## virtual environment with pliant and its tools

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard csrc/*/*.cpp csrc/*/*.h csrc/*/*.inl)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt pip setuptools wheel numpy
	$(BIN)/python -m pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e ".[dev,train]"
	touch $@

# The kernels for GPUs are tested in Triton's interpreter; it is large, and nothing else needs it.
$(INTERPRETER): $(STAMP)
	if [ "$$(uname -s)-$$(uname -m)" = Linux-x86_64 ]; then $(BIN)/python -m pip install -q -c constraints.txt triton; fi
	touch $@

demo: setup  ## run the main job on a real clip and say where the result is
	$(BIN)/python examples/demo.py

test: setup $(INTERPRETER)  ## every test
	$(PYTEST) tests

test-fast: setup  ## the tests that take seconds
	$(PYTEST) -m "not slow" tests

check: setup  ## style and import direction
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/lint-imports

build: setup  ## the native kernels of csrc/, into src/pliant
	$(BIN)/python setup.py -q build_ext --inplace

clean:  ## remove what the targets above made
	rm -rf $(VENV) build *.egg-info src/*.egg-info
