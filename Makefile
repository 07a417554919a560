# The commands of this repository. Each sets up what is missing by itself; see README.md.

PYTHON := .venv/bin/python
RUFF := $(PYTHON) -m ruff
SOURCES := qarnotfs tests bench docs hatch_build.py
# Tests wait nearly as often as they work: three workers, each with a gateway, keep two processors
# busy. Each begins with a third of the tests, in order, so that most files stay whole; who has none
# left takes half of what another has.
PYTEST := $(PYTHON) -m pytest -q -n 3 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-stop test soak check format docs man dist bench bench-sync lint types clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: system packages, .venv
	@tests/setup.sh

demo: setup ## start a gateway, mount a sample bucket, show it working
	@tests/demo.sh start

demo-stop: ## drain and unmount the sample bucket, stop the gateway
	@tests/demo.sh stop

test: setup ## run every test
	@$(PYTEST)

soak: setup ## kill, break and compare for SOAK_MINUTES (10); see docs/RELIABILITY.md
	@$(PYTHON) -m tests.soak

check: setup ## everything that must be right before a commit
	@$(RUFF) format --check $(SOURCES)
	@$(RUFF) check $(SOURCES)
	@$(PYTHON) -m mypy
	@$(PYTHON) -m pytest -q tests/test_architecture.py
	@$(PYTEST)

format: setup ## rewrite the sources in the one format
	@$(RUFF) check --fix-only --quiet $(SOURCES)
	@$(RUFF) format $(SOURCES)

docs: setup ## write docs/API.md and CONFIGURATION.md from the code
	@$(PYTHON) -m docs.api
	@$(PYTHON) -m docs.settings

man: setup ## write the manual pages to build/man
	@$(PYTHON) -m docs.man build/man

dist: setup ## build sdist and wheel in dist/; the same commit makes the same bytes
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PYTHON) -m build --no-isolation --outdir dist .
	@cd dist && sha256sum *

bench-sync: setup ## measure sync_directory against the SDK's; about ten minutes
	@$(PYTHON) -m bench.sync_directory

bench: setup ## measure mounts beside s3fs and rclone; hours: see bench/run.py for parts
	@$(PYTHON) -m pip install -qq --constraint constraints.txt --editable '.[bench]'
	@$(PYTHON) -m bench.run

clean: demo-stop ## remove everything that was made here
	@rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	@find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +
