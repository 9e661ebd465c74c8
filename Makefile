# Everything starts here. `make` lists what there is.
SHELL := /bin/bash -euo pipefail
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ENGINE ?= podman
export BUILD_OPTIONS ?=
REVISION = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

# The environment has its modules compiled at set-up; a worker that may not write them would compile
# them again at every start of Ray.
unexport PYTHONDONTWRITEBYTECODE
# Threads of OpenMP that wait by spinning take the processors from those that compute; some
# microseconds of it are less than the kernel's sleep.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 1000

.PHONY: help setup demo serve test coverage check fix bench kills soak bench-api image k8s-check cluster cluster-smoke cluster-test cluster-faults clean

help:  ## what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## the environment in .venv, from uv.lock, byte-compiled

$(READY): pyproject.toml uv.lock
	@uv=$$(command -v uv) || { $(PYTHON) -m venv .venv-uv && .venv-uv/bin/pip install -q uv && uv=.venv-uv/bin/uv; }; \
	  "$$uv" sync --locked --all-extras --compile-bytecode --quiet
	@touch $@

demo: $(READY)  ## the whole way on generated stores, in data/, with a forecast to look at
	$(BIN)/storecast demo

serve: $(READY)  ## the API on http://127.0.0.1:8080 over the demo's bucket
	STORECAST_API_BUCKET=$${STORECAST_BUCKET:-data} $(BIN)/python -m api

# Many tests wait for other processes, and each process of pytest has a Ray and a storage of its own.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(READY)  ## the tests, on up to four processors; TESTS=… chooses some
	$(BIN)/pytest $(PARALLEL) $(TESTS)

coverage: $(READY)  ## the tests, with the branches that none of them takes
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term-missing:skip-covered

check: $(READY)  ## format, lint, types, import directions; changes nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

fix: $(READY)  ## repairs what check can repair, writes api/openapi.json and the features in docs/
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/python -m api.openapi
	$(BIN)/python -m ray_job.features.dictionary

bench: $(READY)  ## what a run takes, against the limit and against what people otherwise write
	@uv=$$(command -v uv || echo .venv-uv/bin/uv); \
	  "$$uv" sync --locked --all-extras --group bench --inexact --compile-bytecode --quiet
	$(BIN)/python -m tests.benchmarks $(BENCH)

kills: $(READY)  ## every command killed at every change, and given again; an hour
	$(BIN)/python -m tests.processes.kills

soak: $(READY)  ## a minute of racing writers and readers on one bucket
	$(BIN)/python -m tests.processes.soak

bench-api: $(READY)  ## the API's requests per second, beside what FastAPI and uvicorn alone do
	$(BIN)/python -m tests.benchmarks.api

image:  ## both container images, with podman (ENGINE=docker for docker)
	$(ENGINE) build $(BUILD_OPTIONS) --build-arg REVISION=$(REVISION) --target job --tag storecast:job .
	$(ENGINE) build $(BUILD_OPTIONS) --build-arg REVISION=$(REVISION) --target api --tag storecast:api .

k8s-check: $(READY)  ## manifests, set-up commands and alert rules against the real schemas and tools
	$(BIN)/pytest tests/k8s

cluster: $(READY)  ## a real Kubernetes with KubeRay and the project on it, on this machine; as root
	$(BIN)/python -m tests.cluster up

cluster-smoke: $(READY)  ## there: set-up three times, a night of the schedule, a lost worker
	$(BIN)/python -m tests.cluster test tests/cluster/test_smoke.py

cluster-test: $(READY)  ## there: all tests of tests/cluster
	$(BIN)/python -m tests.cluster test

cluster-faults: $(READY)  ## there: each fault in each phase of a night, and two at once; more than an hour
	STORECAST_CLUSTER_FAULTS=all $(BIN)/python -m tests.cluster test tests/cluster/test_faults.py

clean:  ## removes the environment and what tests left; keeps data/
	rm -rf $(VENV) .venv-uv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
