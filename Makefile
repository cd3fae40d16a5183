# make gates   is the phase done? (trains for real; about two minutes)
# make test    lint, types, folder rules, then every test, property, gate and benchmark, PyTorch and JAX included
# Both make the environment they need in .venv, from requirements.lock, the first time and when the lock changes.

# The first Python of 3.11 or later; another one: make PYTHON=/path/to/python3.13
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.requirements.lock.installed
PEERS := $(VENV)/.requirements-peers.txt.installed
PYTEST := $(BIN)/python -m pytest
# Full MLflow, which only its web pages need, is some thirty packages more: an environment of its own.
UI := .venv-ui
UI_PORT ?= 5000
MLFLOW := $(shell sed -n 's/^mlflow-skinny==\([^ ;]*\).*/\1/p' requirements.lock)
UI_INSTALLED := $(UI)/.mlflow-$(MLFLOW).installed

WILD := .venv-wild
WILD_INSTALLED := $(WILD)/.requirements-wild.txt.installed

# The pages of docs/ as a site: mkdocs and its theme, in an environment of their own.
SITE := .venv-site
SITE_INSTALLED := $(SITE)/.requirements-site.txt.installed

.PHONY: gates test examples properties strength wild docs site benchmarks performance ui lint format install peers lock clean

gates: $(INSTALLED)
	$(PYTEST) gates/ $(ARGS)

# The tests of the house on both cores; then what starts trainings or measures, one at a time.
test: lint $(PEERS)
	$(PYTEST) tests --numprocesses=2 --dist=worksteal --benchmark-disable $(ARGS)
	$(PYTEST) properties gates benchmarks --benchmark-disable $(ARGS)

# Every example of docs/ with every mistake that it can be given, and CONTRIBUTING.md followed; some ten minutes.
examples: $(PEERS)
	$(PYTEST) tests/test_examples.py tests/test_examples_level3.py tests/test_contributing.py --all-mistakes --numprocesses=2 --dist=worksteal --benchmark-disable $(ARGS)

properties: $(INSTALLED)
	$(PYTEST) properties/ $(ARGS)

# How strong the suite is: every mutant against every property, every wrong loop against the gates; then the pages.
strength: $(PEERS)
	$(BIN)/python -m properties.strength --json runs/strength.json --margins
	$(PYTEST) gates/ --all-controls
	$(BIN)/python docs/generate.py --strength

# docs/wild.md: loops that others wrote, in an environment of their own; some twenty minutes. One: make wild ARGS=keras
wild: $(WILD_INSTALLED)
	$(WILD)/bin/python -m properties.wild --json docs/measured/wild.json $(ARGS)

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

# runs/site, which any server of files shows (python -m http.server --directory runs/site); a dead link is an error.
site:
	@$(MAKE) --no-print-directory --silent $(SITE_INSTALLED)
	@NO_MKDOCS_2_WARNING=true $(SITE)/bin/mkdocs build --strict --quiet
	@echo "runs/site: $$(find runs/site -name '*.html' | wc -l) pages"

benchmarks: $(INSTALLED)
	$(PYTEST) benchmarks/ $(ARGS)

# docs/performance.md: training steps, kernels and scaling beside PyTorch and JAX; some ten minutes.
performance: $(PEERS)
	$(BIN)/python -m benchmarks.page

# The tracked runs in a browser, until Ctrl-C; another port: make ui UI_PORT=5001
ui:
	@test -f runs/mlflow.db || { echo "error: there is no runs/mlflow.db yet; python -m impl train makes it" >&2; exit 2; }
	@$(MAKE) --no-print-directory --silent $(UI_INSTALLED)
	@$(UI)/bin/python -c 'import sqlite3; \
		last = "select experiment_id from runs order by start_time desc limit 1"; \
		found = sqlite3.connect("runs/mlflow.db").execute(last).fetchone() or [0]; \
		print(f"the runs, in a few seconds: http://127.0.0.1:$(UI_PORT)/#/experiments/{found[0]}/runs", flush=True)'
	@MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false PYTHONWARNINGS=ignore exec $(UI)/bin/mlflow ui \
		--backend-store-uri sqlite:///runs/mlflow.db --port $(UI_PORT) --workers 1

lint: $(PEERS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED)

peers: $(PEERS)

# An environment without pip (uv makes such) or with a Python that has gone is made anew. This clone is on its path,
# after all that is installed: a loop in any folder can import honestloop.
$(INSTALLED): requirements.lock
	@test -n "$(PYTHON)" || { echo "error: honestloop needs Python 3.11 or later; none found" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing requirements.lock into $(VENV) (once; a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -c 'import pathlib, sysconfig; \
		pathlib.Path(sysconfig.get_path("purelib"), "clone_of_honestloop.pth").write_text("$(CURDIR)\n")'
	@touch $@

$(PEERS): requirements-peers.txt $(INSTALLED)
	@echo "installing requirements-peers.txt (PyTorch for the CPU, JAX, Transformers, Lightning: the other subjects) into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-peers.txt
	@touch $@

$(WILD_INSTALLED): requirements.lock requirements-peers.txt requirements-wild.txt
	@test -n "$(PYTHON)" || { echo "error: honestloop needs Python 3.11 or later; none found" >&2; exit 2; }
	@echo "installing requirements-wild.txt (Keras, PyTorch, Transformers, Lightning) into $(WILD) (once; some minutes)"
	@$(PYTHON) -m venv --clear $(WILD)
	@$(WILD)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(WILD)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-peers.txt --requirement requirements-wild.txt
	@touch $@

$(UI_INSTALLED):
	@test -n "$(PYTHON)" || { echo "error: honestloop needs Python 3.11 or later; none found" >&2; exit 2; }
	@echo "installing mlflow $(MLFLOW) into $(UI) (once; a minute or two)"
	@$(PYTHON) -m venv --clear $(UI)
	@$(UI)/bin/python -m pip install --quiet --disable-pip-version-check mlflow==$(MLFLOW)
	@touch $@

$(SITE_INSTALLED): requirements-site.txt
	@test -n "$(PYTHON)" || { echo "error: honestloop needs Python 3.11 or later; none found" >&2; exit 2; }
	@echo "installing requirements-site.txt into $(SITE) (once)"
	@$(PYTHON) -m venv --clear $(SITE)
	@$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-site.txt
	@touch $@

# After an edit of the dependencies in pyproject.toml; the only target that needs uv.
lock:
	uv lock
	uv export --quiet --frozen --extra gates --extra bench --all-groups --no-emit-project --no-header --output-file requirements.lock

clean:
	rm -rf $(VENV) $(UI) $(SITE) $(WILD) .cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
