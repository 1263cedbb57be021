# Everything is installed from PyPI into .venv; nothing else on the machine is touched, but for QEMU (`make test`
# as root on Debian, see .ci/emulators).
PYTHON ?= python3
VENV ?= .venv
PYTEST_OPTIONS ?= -n 2 --dist loadfile
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: help demo test check clean

help:
	@echo 'make demo   set up, compile a trained network for this machine and a Raspberry Pi 4, run both'
	@echo 'make test   set up with the tools of development, run the tests'
	@echo 'make check  style and types: ruff, mypy'
	@echo 'make clean  remove what was built; .venv stays'

demo: $(VENV)/ready
	$(VENV)/bin/python examples/digits/demo.py

test: $(VENV)/ready-for-development
	.ci/emulators
	$(VENV)/bin/python -m pytest $(PYTEST_OPTIONS)

check: $(VENV)/ready-for-development
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	.ci/types $(VENV)/bin/python

clean:
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'graphopt needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo 'Debian: apt-get install python3-venv'; rm -rf $(VENV); exit 1; }

$(VENV)/ready: pyproject.toml | $(VENV)/bin/python
	$(PIP) install -e .
	@touch $@

$(VENV)/ready-for-development: pyproject.toml | $(VENV)/bin/python
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/ready
