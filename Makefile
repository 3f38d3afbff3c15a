# Everything a fresh machine with Python >= 3.11 needs. No root, no keys.
#
#   make run     serve config.toml on 127.0.0.1:8080 and answer a first question
#   make test    run the tests
#   make check   lint, types, spelling and house rules
#   make slow    tests that need minutes or install a server of their own
#   make bench   measure; prints figures and asserts none
#   make bench-page  the same, recorded in docs/explanation/benchmarks.md
#   make cover   the tests with branch coverage
#   make mutants break breaker, retry budget and ledger in every small way; tests notice
#   make faults  break backends in every known way, over real HTTP, and judge
#   make docs    write config.toml and the generated reference pages

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
QUESTION := What are metabolic pathways?

# A terminal keeps serving; CI or a pipe stops after the answer.
ONCE := $(if $(CI),--once,$(shell test -t 1 || echo --once))

.PHONY: run test check slow bench bench-page cover mutants faults faults-full docs clean

run: $(VENV)/installed
	$(BIN)/plb serve --config config.toml --ask "$(QUESTION)" $(ONCE)

test: $(VENV)/tools
	$(BIN)/python -m pytest -m "not slow and not faults" $(ARGS)

check: $(VENV)/tools
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell plb_core plb_contrib_algorithms plugins tests docs README.md CHANGELOG.md CONTRIBUTING.md
	$(BIN)/python -m pytest tests/house

slow: $(VENV)/tools
	$(BIN)/python -m pytest -m slow $(ARGS)

bench: $(VENV)/tools
	$(BIN)/python -m tests.bench

cover: $(VENV)/tools
	$(BIN)/python -m coverage run -m pytest -m "not slow and not faults"
	$(BIN)/python -m coverage report

bench-page: $(VENV)/tools
	$(BIN)/python -m tests.bench --page

faults: $(VENV)/tools
	$(BIN)/python -m tests.faults

faults-full: $(VENV)/tools
	$(BIN)/python -m tests.faults --full --page

mutants: $(VENV)/tools
	$(PIP) install "mutmut>=3.8,<4"
	$(BIN)/python -m mutmut run
	$(BIN)/python -m mutmut results

docs: $(VENV)/tools
	$(BIN)/plb init --force
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) .venv-* build dist mutants

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "plb needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "no virtual environment could be made; on Debian: apt install python3-venv"; exit 1; }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(PIP) install --editable ".[speed]"
	@touch $@

# Groups of dependencies need a pip newer than the one that comes with Python 3.11.
$(VENV)/tools: $(VENV)/installed
	$(PIP) install --upgrade "pip>=25.1"
	$(PIP) install --group test --group check
	@touch $@
