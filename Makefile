# `make help` lists the targets. Each creates the environment first if it is missing or older than its lock file:
# in .venv, either all of it, or only what prediction needs, which the other includes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install install-run demo test faults test-numerics repro live serve lint lock-check ui plots clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1\t\2/p' Makefile | expand -t 20

install: .venv/.installed  ## create the whole environment in .venv, with uv if available, else with pip

install-run: .venv/.installed-run  ## create only what prediction and the webcam page need, without TensorFlow

.venv/.installed: requirements.lock
	$(call install_in_venv,$<)
	@touch .venv/.installed-run $@

.venv/.installed-run: requirements-run.lock
	$(call install_in_venv,$<)
	@touch $@

define install_in_venv
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python -r $(1) --editable .; \
	else \
	  $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet -r $(1) --editable .; \
	fi
endef

demo: install  ## run the whole graph on synthetic images in .demo/, in 4 minutes, without an account or a data set
	$(BIN)/python -m tools.demo

test: install  ## run all tests, on small data
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

faults: install  ## run the fault suite, all of it, and write its table to docs/reliability.md
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/faults --faults-table docs/reliability.md

NUMERICS := explain models scoring export unseen_eval
test-numerics: install  ## run the numerical tests without oneDNN, that is with another processor's arithmetic
	TF_ENABLE_ONEDNN_OPTS=0 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	  $(NUMERICS:%=tests/test_%.py)

repro: install  ## run `dvc repro`: with the default parameters, on the Kaggle data sets
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

live: install-run  ## serve the webcam page on http://127.0.0.1:8000
	$(BIN)/python -m face_mask.live

lint: install  ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock-check: install  ## fail if dvc.lock does not match the code or the parameters
	$(BIN)/python -m tools.check_lock

ui: install  ## serve MLflow's user interface on http://localhost:5000
	@echo 'The runs: http://localhost:5000/#/experiments/1?workflowType=machine_learning'
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

serve: install  ## serve the champion with MLflow's model server on http://127.0.0.1:5001, or PORT=…
	@$(BIN)/python -m tools.serve --port $(or $(PORT),5001)

plots: install  ## write the plots to dvc_plots/index.html
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc plots show

clean:  ## remove temporary files of the demo and the tools; results and environment are kept
	rm -rf .demo dvc_plots .pytest_cache .mypy_cache .ruff_cache .hypothesis
