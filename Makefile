# make repro: from nothing but Python to a trained, indexed, evaluated model. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Settings of a user's shell that would change results; scripts/clean_environment.sh names the same ones.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME CDPATH
export PYTHONNOUSERSITE := 1
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export GX_ANALYTICS_ENABLED := false
BASE ?= origin/main
BENCH ?= table
GRID ?= train.loss.alpha=1,2 train.batch.hard_share=0.25,0.5

.PHONY: help setup hooks repro explore test test-pipeline test-panoramax test-mapillary lint bench plots docs report sweep lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "make %-14s %s\n", $$1, $$2 }'

setup: ## make .venv from requirements.lock (once; later calls return at once)
	@scripts/setup.sh

hooks: setup ## install the pre-commit hooks: format, lint, dvc.lock and params in step
	@pre-commit install

repro: setup ## run the pipeline and print its metrics; STREETRECALL_ARCHIVE=folder runs it on your own pictures
	@scripts/repro.sh

explore: setup ## serve the page of this project's results, and photos by its bundle: SERVE='--port 0 ...'
	@streetrecall serve $(SERVE)

test: setup ## run the test suite
	@scripts/chromium.sh || echo "setup: tests that need a browser will be skipped" >&2
	@pytest -n 2 --dist loadscope --durations=30 --durations-min=5 -m "not pipeline and not panoramax and not mapillary"

test-pipeline: setup ## run the whole pipeline on a small city, in a copy of this folder
	@scripts/chromium.sh
	@pytest -m pipeline tests/team/test_pipeline.py

test-panoramax: setup ## collect pictures from a real Panoramax server (GeoVisio), started here
	@scripts/panoramax.sh
	@pytest -m panoramax tests/team/test_real_panoramax.py

test-mapillary: setup ## ask the tests' stand-in of Mapillary with Mapillary's own Python client
	@scripts/mapillary.sh
	@pytest -m mapillary tests/team/test_mapillary_client.py

lint: setup ## check format, style, types and workflows
	@ruff format --check .
	@ruff check .
	@mypy
	@check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@zizmor --offline --quiet .github/workflows

bench: setup ## measure speeds on this machine, all into docs/benchmarks.md or one of them: BENCH=name (check compares)
	@streetrecall bench $(BENCH)

plots: setup ## draw the plots of the last run into dvc_plots/, as SVG and one HTML page that loads nothing
	@streetrecall plots

docs: setup ## build the Data Docs of the last validation into site/, viewable offline
	@streetrecall docs --site site

report: setup ## what a pull request would say: BASE=revision, by default origin/main
	@streetrecall report $(BASE)

sweep: setup ## queue a grid of experiments (GRID='KEY=A,B ...'), run them by two workers, compare
	@streetrecall sweep $(GRID)

lock: setup ## resolve requirements.lock anew from pyproject.toml (LOCK=--upgrade takes newer releases)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		$(LOCK) --custom-compile-command "make lock" --extra pipeline --extra test --extra bench --extra cluster --extra networks \
		pyproject.toml --output-file requirements.lock

clean: ## remove the environment and what tools left; data, models, metrics and caches stay
	@rm -rf .venv build site dvc_plots .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
