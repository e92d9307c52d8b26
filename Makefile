# Every target sets up what it needs; `make help` lists them.
#   PYTHON=python3.12       the interpreter for .venv (else the first python3 that is 3.11 or newer)
#   TORCH_INDEX=<url>       where PyTorch's CPU build comes from on a machine without an NVIDIA GPU
#   ARGS="-k merge -x"      passed on to pytest or to a benchmark

TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BENCHMARKS := training generation ingest sweep asha factory learning audition tracking whole_line
NAME ?= $(BENCHMARKS)
BIN := .venv/bin
export TORCH_INDEX PYTHON

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-system chaos check format lock bench clean doctor

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 18

setup: .venv/.set-up ## the virtual environment with everything in it; does nothing the second time
	@:

KERNEL := setup.py $(wildcard samplernn/native/*.h samplernn/native/*.cpp)

.venv/.set-up: requirements.lock constraints.txt pyproject.toml $(KERNEL) .ci/setup
	@bash .ci/setup
	@touch $@

demo: setup ## from four rock songs to an album, in minutes
	@$(BIN)/python -m orchestrator.demo $(ARGS)

test: setup ## every test that needs only Python
	@$(BIN)/python -m pytest -m "not system" $(ARGS)

test-all: test test-system ## those, and the tests that need a browser, ffmpeg, sshd or root

test-system: setup
	@bash .ci/system-packages
	@$(BIN)/python -m pytest -m system $(ARGS) || { code=$$?; [ $$code -eq 5 ] && echo "no system tests"; }

chaos: setup ## kill workers, nodes and drivers of sweeps, every way there is (CHAOS_SEED=7 repeats a run)
	@CHAOS=all $(BIN)/python -m pytest tests/orchestrator/test_chaos.py $(ARGS)

check: setup ## ruff, format, mypy --strict, the arrows between the packages
	@failed=0; \
	$(BIN)/ruff check --output-format concise . || failed=1; \
	$(BIN)/ruff format --check --output-format concise . || failed=1; \
	$(BIN)/mypy || failed=1; \
	$(BIN)/lint-imports --no-logo || failed=1; \
	exit $$failed

format: setup ## let ruff format and mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Pins stay as they are unless pyproject.toml asks for others; LOCK=--upgrade takes the newest of everything.
lock: setup ## write requirements.lock from pyproject.toml
	@bash .ci/lock $(LOCK)

bench: setup ## run the benchmarks, or one: make bench NAME=training ARGS=--quick
	@for name in $(NAME); do \
	  if [ -f benchmarks/$$name.py ]; then $(BIN)/python benchmarks/$$name.py $(ARGS) || exit 1; \
	  else echo "benchmarks/$$name.py is not there"; fi; \
	done

doctor: setup ## what this machine can do, and what is wrong with it
	@$(BIN)/orchestrator doctor

clean: ## remove caches and build outputs; .venv and workspace stay
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
