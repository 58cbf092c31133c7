# Everything runs in .venv, which `setup` makes from python3 alone. `make` alone lists what there is.
PYTHON ?= python3
RUN := .venv/bin/python
# Tests wait more than they compute, for processes to start and blocks to come: more at once than there are cores.
TESTS_AT_ONCE ?= $(shell expr $$(nproc) + 1)

.DEFAULT_GOAL := help
.PHONY: help setup up demo test check bench faults soak lock migrate clean
# Where it is set, each of hundreds of processes compiles all it imports anew: seconds each.
unexport PYTHONDONTWRITEBYTECODE
# No built-in rules: nothing here is compiled, and looking for them takes time.
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:

help: ## This list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv, or bring it up to date; nothing to do takes no time
	@$(PYTHON) -I -S local/bootstrap.py

up: setup ## The whole platform on this machine, until Ctrl-C
	@.venv/bin/tallyrail up

demo: setup ## Deposits and a payout on a real chain, packets, a card payment, checked to the last unit (ARGS=--keep: left up)
	@$(RUN) -m local.demo $(ARGS)

test: setup ## All tests but the long campaigns
	@.venv/bin/pytest -n $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder -m "not faults and not soak"

check: setup ## Format, lint, types, import rules, migrations, generated files
	@$(RUN) -m local.check

bench: setup ## Every benchmark, one JSON line a figure
	@for file in bench/bench_*.py; do $(RUN) -m bench.$$(basename $$file .py) || exit 1; done

bench-%: setup ## One benchmark: bench-jobs runs bench/bench_jobs.py
	@$(RUN) -m bench.bench_$*

faults: setup ## The long fault campaigns
	@.venv/bin/pytest -m faults

soak: setup ## What has to run for long to mean anything
	@.venv/bin/pytest -m soak

lock: ## Pin the requirement files anew from pyproject.toml
	@$(PYTHON) -I -S local/bootstrap.py lock

migrate: setup ## Bring the database of DATABASE_OWNER_URL or DATABASE_URL to the newest schema
	@.venv/bin/tallyrail migrate

clean: ## Remove what was built or fetched; not the data
	@rm -rf .venv .cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache .bootstrap.lock dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
