# Everything a fresh clone needs: Python 3.11 or later, and make. `make` alone lists the commands.

PYTHON ?= python3
VENV   ?= .venv
HOST   ?= 127.0.0.1
PORT   ?= 8000
# make demo-cluster: Redis takes this port, and three web processes the next ones.
CLUSTER_PORT ?= 8100
# More arguments for pytest: make test PYTEST_ARGS="-k replay -x"
PYTEST_ARGS ?=
# Most tests wait for servers and browsers: twice as many at once as there are processors.
WORKERS ?= 4

# make soak SECONDS=3600 SOAK_ARGS="--seed 7"
SECONDS ?= 600
SOAK_ARGS ?=
# What clients send, first: about 2,000 inputs a second.
FUZZ_INPUTS ?= 1000000
CONNECTIONS ?= 100000

BIN := $(VENV)/bin
# A chosen test is run alone, so that what it prints can be read.
PYTEST := $(BIN)/python -m pytest $(if $(PYTEST_ARGS),,-n $(WORKERS) --dist loadfile --no-loadscope-reorder)
# Tests start hundreds of processes: none of them compiles again what was compiled before.
unexport PYTHONDONTWRITEBYTECODE
# The stamps live inside the environment, so removing it removes them too.
MADE := $(VENV)/.made
DEMO_READY := $(VENV)/.demo-ready
DEV_READY := $(VENV)/.dev-ready
CLUSTER_READY := $(VENV)/.cluster-ready
CLIENT_READY := client/node_modules/.ready

HAVE_NPM := $(shell command -v npm 2>/dev/null)
NPM_MISSING := the client's checks: npm is missing (install Node.js 20 or later)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-cluster test test-client test-databases test-postgresql test-mariadb lint format docs screenshots matrix client clean soak bench

help: ## list these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12   another Python (3.11 or later)       PORT=8001   another port for the demo"
	@echo "  LIVE_REQUIRE=all    a test that is left out is a failure"

$(MADE):
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "There is no '$(PYTHON)' here. Install Python 3.11 or later, or name it: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$($(PYTHON) --version) is too old: django_live needs Python 3.11 or later. Name another: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Making the environment $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(DEMO_READY): pyproject.toml $(MADE)
	@echo "Installing django_live and the Daphne server …"
	@$(BIN)/python -m pip install --disable-pip-version-check --editable '.[daphne,dashboards,markdown]' || { \
	  echo "The packages could not be installed (see above). Is there a network?"; exit 1; }
	@touch $@

$(CLUSTER_READY): pyproject.toml $(DEMO_READY)
	@echo "Installing what several processes need …"
	@$(BIN)/python -m pip install --disable-pip-version-check --editable '.[daphne,dashboards,markdown,redis]' 'uvicorn[standard]' || { \
	  echo "The packages could not be installed (see above). Is there a network?"; exit 1; }
	@touch $@

$(DEV_READY): pyproject.toml $(MADE)
	@echo "Installing django_live and the tools to work on it …"
	@# Older pips do not know dependency groups.
	@$(BIN)/python -m pip install --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --disable-pip-version-check --editable '.[all]' --group dev || { \
	  echo "The packages could not be installed (see above). Is there a network?"; exit 1; }
	@touch $@ $(DEMO_READY) $(CLUSTER_READY)

$(CLIENT_READY): client/package-lock.json
	@echo "Installing the client's tools …"
	@cd client && npm ci --no-audit --no-fund
	@touch $@

demo: $(DEMO_READY) ## a live site with example data, ready to click
	@$(BIN)/python -c 'import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("$(HOST)", $(PORT)))' 2>/dev/null || { \
	  echo "Port $(PORT) is taken. Choose another: make demo PORT=8001"; exit 1; }
	@echo "Preparing the example's database …"
	@$(BIN)/python manage.py migrate --verbosity 0
	@$(BIN)/python manage.py demo_data
	@echo
	@echo "  The demo:  http://$(HOST):$(PORT)/     (stop it with Ctrl-C)"
	@echo
	@$(BIN)/python manage.py runserver $(HOST):$(PORT)

demo-cluster: $(CLUSTER_READY) ## the same as three processes behind nginx, with Redis
	@exec $(BIN)/python -m example_project.cluster --host $(HOST) --port $(PORT) --base-port $(CLUSTER_PORT)

test: $(DEV_READY) test-client ## run every test this machine can run, and name the others
	@$(if $(HAVE_NPM),,LIVE_LEFT_OUT="$(NPM_MISSING)") $(PYTEST) $(PYTEST_ARGS)
	@$(if $(PYTEST_ARGS),,$(MAKE) --no-print-directory test-databases)

# Each waits for its disk most of the time, so both run at once, with half of the processes.
test-databases:
	@$(MAKE) --no-print-directory WORKERS=2 --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) test-postgresql test-mariadb

# The contracts once more: on SQLite they ran with everything else. What is the same on any database,
# because it stands on Redis, on memory or on a database of its own, is not repeated.
ON_A_DATABASE := tests/contracts tests/stores tests/features tests/chat tests/notifications -m "not any_database"

test-postgresql: $(DEV_READY)
	@$(call on_database,postgresql,PostgreSQL)

test-mariadb: $(DEV_READY)
	@$(call on_database,mariadb,MariaDB)

# $(call on_database,name of the requirement,name for people)
define on_database
	if $(BIN)/python -c 'from tests.support.requirements import is_available as a; raise SystemExit(not a("$(1)"))'; then \
	  echo "Stores, outbox, changes and chat on $(2) …"; \
	  LIVE_TEST_DATABASE=$(1) $(PYTEST) $(ON_A_DATABASE); \
	else case ",$$LIVE_REQUIRE," in \
	  *,all,*|*,$(1),*) echo "LIVE_REQUIRE=$$LIVE_REQUIRE, but there is no $(2)"; exit 1;; \
	  *) echo "Left out: stores, outbox, changes and chat on $(2) (there is none here)";; esac; fi
endef

ifdef HAVE_NPM
test-client: $(CLIENT_READY)
	@cd client && npm run check
else
test-client:
	@case ",$$LIVE_REQUIRE," in \
	  *,all,*|*,npm,*) echo "LIVE_REQUIRE=$$LIVE_REQUIRE, but left out: $(NPM_MISSING)"; exit 1;; \
	  *) echo "Left out: $(NPM_MISSING)";; esac
endif

soak: $(DEV_READY) ## a million malformed inputs, 100,000 connections, long tests, then faults for SECONDS (600)
	@$(BIN)/python -m tests.fuzz.soak $(FUZZ_INPUTS)
	@$(BIN)/python -m tests.churn.soak $(CONNECTIONS)
	@LIVE_TEST_LONG=1 $(BIN)/python -m pytest -q -m long tests/chaos tests/features
	@LIVE_TEST_LONG=1 $(BIN)/python -m pytest -q tests/servers/test_drain.py
	@LIVE_TEST_LONG=1 $(BIN)/python -m pytest -q -m long tests/servers/test_chat.py
	@$(BIN)/python -m tests.faults.soak $(SECONDS) $(SOAK_ARGS)

lint: $(DEV_READY) $(if $(HAVE_NPM),$(CLIENT_READY)) ## style, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# Its Django plugin takes one model for another of the same name, or not, as the order of sets falls.
	PYTHONHASHSEED=0 $(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(HAVE_NPM),cd client && npm run types,@echo "Left out: $(NPM_MISSING)")

format: $(DEV_READY) ## put the Python code into shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(DEV_READY) ## measure what benchmarks/README.md lists (many minutes; the machine should be idle)
	$(BIN)/python benchmarks/publish.py
	$(BIN)/python benchmarks/changes.py
	$(BIN)/python benchmarks/client.py
	$(BIN)/python benchmarks/client_fallback.py
	$(BIN)/python benchmarks/survey.py
	$(BIN)/python benchmarks/counting.py
	$(BIN)/python benchmarks/progress.py
	$(BIN)/python benchmarks/token_streams.py
	$(BIN)/python benchmarks/presence.py
	$(BIN)/python benchmarks/dashboards.py
	$(BIN)/python benchmarks/notifications.py
	$(BIN)/python benchmarks/dispatch.py
	$(BIN)/python benchmarks/fanout/connects.py
	$(BIN)/python benchmarks/fanout/growth.py
	$(BIN)/python benchmarks/fanout/storm.py
	$(BIN)/python benchmarks/fanout/memory.py
	$(BIN)/python benchmarks/fanout/memory.py --churn 300
	$(BIN)/python benchmarks/chat.py
	$(BIN)/python benchmarks/fanout/run.py
	$(BIN)/python benchmarks/summary.py

docs: $(DEV_READY) ## the documentation as web pages, in docs/_build
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html"

screenshots: $(DEV_READY) ## the pictures of the documentation, made of the example
	$(BIN)/python docs/screenshots.py

matrix: $(DEV_READY) ## every Python, Django and database that is there, and the page that says so
	$(BIN)/python -m tox
	$(BIN)/python -m tests.matrix.page

client: $(CLIENT_READY) ## build the browser client into the package
	cd client && npm run build

clean: ## remove what the commands made (the demo's database too)
	rm -rf $(VENV) build dist docs/_build client/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f db.sqlite3* example_project/db.sqlite3*
	find django_live tests example_project -name __pycache__ -type d -prune -exec rm -rf {} +
