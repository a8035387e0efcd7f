# make demo    build .venv, install, run the main job
# make test    the same for the tests
# make check   lint, types, and the tests
# make docs    build the site of docs/: site/index.html
# make notebooks  run the notebooks of the docs and keep what they show
# make country a pre-training set from maps and mosaics, made by code: runs/country
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL ?= $(BIN)/python -m pip install --quiet

.PHONY: demo docs country notebooks test check lint clean

demo: $(VENV)/.installed
	$(BIN)/cgeartheye demo

country: $(VENV)/.installed
	$(BIN)/python tools/jlssd_country.py runs/country

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

notebooks: $(VENV)/.installed-dev
	$(BIN)/python tools/run_notebooks.py

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

check: lint test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --constraint constraints.txt --editable '.[docs]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo site
