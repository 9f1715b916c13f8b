# `make help` lists the targets. Each makes the environment first if it is missing or older than requirements.lock.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo test repro live serve lint lock-check ui plots clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1\t\2/p' Makefile | expand -t 18

install: .venv/.installed  ## the environment in .venv (uv where it is there, else pip)

.venv/.installed: requirements.lock
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock; \
	else \
	  $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet -r requirements.lock; \
	fi
	@touch $@

demo: install  ## the whole graph on drawn pictures, in .demo/: no account, no data set, 4 minutes
	$(BIN)/python -m tools.demo

test: install  ## every test, on small data
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

repro: install  ## rebuild everything on the default parameters: the Kaggle data set
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

live: install  ## the webcam page on http://127.0.0.1:8000
	$(BIN)/python -m live

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock-check: install  ## fail when dvc.lock no longer fits code or parameters
	$(BIN)/python -m tools.check_lock

ui: install  ## MLflow's pages on http://localhost:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

serve: install  ## MLflow's model server with the champion on http://127.0.0.1:5001, or PORT=…
	@$(BIN)/python -m tools.serve --port $(or $(PORT),5001)

plots: install  ## draw plots to dvc_plots/index.html
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc plots show

clean:  ## remove what the demo and the tools leave behind, not results or environment
	rm -rf .demo dvc_plots .pytest_cache .mypy_cache .ruff_cache .hypothesis
