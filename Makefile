# Every verb works as the first command in a clean clone: it creates .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
TILTH := $(BIN)/tilth

.PHONY: install demo test check format bench docs clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt --editable '.[build,dev,langchain,llama-index,llm,postgres,report,serve,tracing]'
	touch $@

.venv/installed-bench: .venv/installed
	$(PIP) install --constraint constraints.txt --editable '.[bench]'
	touch $@

demo: .venv/installed  ## sample shop, index, ten answered queries, the evaluation table, a reranker in force, the service
	PATH="$(CURDIR)/$(BIN):$$PATH" bash demo.sh

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pydoclint --quiet src

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed-bench  ## every number in README but those of scale.py, and those of docs
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/encoders.py
	$(BIN)/python benchmarks/reranking.py
	$(BIN)/python benchmarks/agreement.py
	$(BIN)/python benchmarks/labelling.py
	$(BIN)/python benchmarks/clicks.py

docs: .venv/installed  ## docs/cli.md from the commands themselves
	$(BIN)/typer tilth.cli.main utils docs --name tilth --title 'Command line' --output docs/cli.md

clean:
	rm -rf .venv build demo
