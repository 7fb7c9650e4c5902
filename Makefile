# Everything needs Python 3.11 and make; nothing else. `make help` lists the targets.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help setup demo up env test lint bench bench-serving bench-load clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## build .venv with everything that Sightline and its tests need

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup ## labelled pictures to an answered call, in minutes; stops what it starts
	$(BIN)/sightline demo

up: setup ## start the services and a worker on this machine
	$(BIN)/sightline up

env: ## write .env with random values for docker-compose; never replaces one
	docker/make-env.sh

lint: setup ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## lint, then every test, with a real Redis and a real SQLite
	$(BIN)/pytest

bench: export SIGHTLINE_VAR_DIR ?= var/demo
bench: setup ## speed on this machine, side by side with bare loops, of the model that `make demo` left
	$(BIN)/sightline bench training
	$(BIN)/sightline bench serving --only sightline --only fastapi
	$(BIN)/sightline bench precision

# Which model: MODEL="--untrained base" (random weights, the reference network), or MODEL="--model NAME".
MODEL ?= --untrained base
BENCH := var/bench

bench-serving: setup ## speed beside other model servers, with the model and without: about 15 minutes
	$(BIN)/sightline bench peers install
	$(BIN)/sightline bench serving $(MODEL) --report $(BENCH)/serving.json --plot $(BENCH)/serving.png
	$(BIN)/sightline bench serving $(MODEL) --without-model \
		--report $(BENCH)/without-model.json --plot $(BENCH)/without-model.png

bench-load: setup ## what serving withstands: company, batches, version swaps, overload
	$(BIN)/sightline bench company $(MODEL) --report $(BENCH)/company.json
	$(BIN)/sightline bench company $(MODEL) --max-batch 8 --report $(BENCH)/company-batched.json
	$(BIN)/sightline bench swaps $(MODEL) --report $(BENCH)/swaps.json
	$(BIN)/sightline bench overload $(MODEL) --report $(BENCH)/overload.json

clean: ## remove .venv and caches; var/, where your data lies, stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
