# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check setup system clean

demo: setup                     ## transcribe the clips of the repository through the whole way
	@$(BIN)/python -m router.demo

test: setup system              ## the whole suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: setup                    ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

setup: $(VENV)/.complete

$(VENV)/.complete: requirements.txt requirements-dev.txt requirements-no-deps.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "boli needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V); run: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-no-deps.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

system:                         ## packages of the system that some tests use; those tests are skipped where it may not install
	@bash tests/install_system.sh

clean:
	rm -rf $(VENV) .cache build *.egg-info
