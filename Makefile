# Everything a developer types. Needs Python 3.11 or newer; what else is needed comes into .venv on first use.

VENV := .venv
PYTHON := $(VENV)/bin/python
PACKAGES := helpdesk tickets comments knowledge notifications

# The embedded default, whatever the shell this is called from is set to.
EMBEDDED := env -u DATABASE_URL -u REDIS_URL -u CELERY_BROKER_URL

# What a deployment sets, with keys that open nothing: `make lint` checks the settings of production with it.
PRODUCTION = HELPDESK_ENV=production ALLOWED_HOSTS=help.example.com PUBLIC_URL=https://help.example.com \
	SECRET_KEY=$$($(PYTHON) -c "import secrets; print(secrets.token_urlsafe(50))") \
	FIELD_ENCRYPTION_KEYS=$$($(PYTHON) -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())")

.DEFAULT_GOAL := help
.PHONY: help run test test-services chaos bench lint format schema

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.base  ## Run everything on http://localhost:5000 (PORT=… for another port)
	@exec $(PYTHON) manage.py serve

test: $(VENV)/.dev  ## The whole suite, with no service running
	$(EMBEDDED) $(PYTHON) -m pytest -q -n auto -m "not live and not chaos and not postgresql"
	$(EMBEDDED) $(PYTHON) -m pytest -q -n auto --dist loadfile -m "live and not postgresql"

test-services: export DATABASE_URL ?= postgres://$(shell id -un)@127.0.0.1:5432/postgres
test-services: export REDIS_URL ?= redis://127.0.0.1:6379/9
test-services: $(VENV)/.dev  ## The suite again on PostgreSQL and Redis (DATABASE_URL, REDIS_URL)
	$(PYTHON) -m pytest -q -n auto -m "not live and not chaos and not once"
	$(PYTHON) -m pytest -q -n auto --dist loadfile -m "live and not once"

# Random moments: what is killed when is printed as CHAOS_SEED, and repeated by SEED=….
chaos: $(VENV)/.dev  ## Kill and check, SECONDS=300 long (on DATABASE_URL and REDIS_URL where they are set)
	CHAOS_SECONDS=$(or $(SECONDS),300) CHAOS_SEED=$(SEED) $(PYTHON) -m pytest -q -rP -n auto --dist loadfile -m chaos

bench: $(VENV)/.dev  ## The benchmarks (NAME=… runs one)
	$(PYTHON) -m benchmarks $(if $(NAME),--name "$(NAME)")

lint: $(VENV)/.dev  ## Style, types, import contracts, migration drift, schema drift, production settings
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy $(PACKAGES)
	$(VENV)/bin/lint-imports
	$(PYTHON) manage.py makemigrations --check --dry-run
	$(PYTHON) manage.py spectacular --validate --fail-on-warn --file $(VENV)/openapi.yaml
	diff -u docs/openapi.yaml $(VENV)/openapi.yaml || { echo "The API changed: run make schema."; exit 1; }
	$(PRODUCTION) $(PYTHON) manage.py check --deploy --fail-level WARNING

format: $(VENV)/.dev  ## Format the code, and repair what can be repaired
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

schema: $(VENV)/.dev  ## Write docs/openapi.yaml, docs/asyncapi.yaml and the types of clients/js
	$(PYTHON) manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml
	$(PYTHON) manage.py document_sockets

$(VENV)/.base: requirements/base.txt | $(VENV)/.made
$(VENV)/.dev: requirements/dev.txt requirements/base.txt | $(VENV)/.made
$(VENV)/.base $(VENV)/.dev:
	@echo "Installing $< into $(VENV) …"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# An environment that works is kept; one that was made half, or whose Python is gone, is made anew.
$(VENV)/.made:
	@if ! $(PYTHON) -m pip --version > /dev/null 2>&1; then \
		for python in python3 python3.13 python3.12 python3.11; do \
			if $$python -c "import sys; sys.exit(sys.version_info < (3, 11))" > /dev/null 2>&1; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then echo "Python 3.11 or newer is needed, and none was found."; exit 1; fi; \
		echo "Making $(VENV) with $$($$found --version) …"; \
		$$found -m venv --clear $(VENV) || { echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }; \
	fi
	@touch $@
