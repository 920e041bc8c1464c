# make demo | make test | make lint: each does all its own set-up in .venv, and is quick the second time.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
READY  := $(VENV)/.ready
SHELL  := /bin/bash

.PHONY: demo test lint format clean

demo: $(READY)
	$(BIN)/python -m vidpose.demo demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch comes first and by itself: a version that is known to work, or whatever the index has for this Python.
# Choose your own with, for example, `make test TORCH="torch --index-url https://download.pytorch.org/whl/cpu"`.
TORCH ?= torch==2.13.0

$(READY): pyproject.toml packages/vidpose-render/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("vidpose needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install $(TORCH) || $(PIP) install 'torch>=2.4'
	$(PIP) install -e '.[dev]' -e packages/vidpose-render
	touch $(READY)

clean:
	rm -rf $(VENV) demo/ .pytest_cache .mypy_cache .ruff_cache
