# Everything runs in .venv. Setup is done again when a lock file or a pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
CLIENTS := .venv-clients
BIN := $(VENV)/bin
PACKAGES := $(patsubst %/pyproject.toml,%,$(wildcard services/*/pyproject.toml))
CODE := services tests charts k8s benchmarks examples docs

# One process a CPU; the tests of a file stay in one, for they share what they start. In the order of the files, which
# ends with quick ones: one with few tests that take minutes would be left for the end, and to one process.
PYTEST := $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
# Compiled here, the first start need not do it, four times over.
INSTALL := $(BIN)/uv pip install --python $(BIN)/python --compile-bytecode
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-emit-package servicekit $(UPGRADE)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set, each process of the tests compiles the services and the migrations anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test setup fmt lint typecheck test-unit test-integration test-e2e test-conformance requisites lock bench bench-identity bench-telemetry images image-postgres up load down test-charts chart-schemas settings-page pictures dashboards manifests e2e clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Start Pinhole on this machine (PORT=8000, OBSERVABILITY=1; Ctrl-C stops it).
	@OBSERVABILITY=$(OBSERVABILITY) exec $(BIN)/pinhole-run

test: requisites lint typecheck $(CLIENTS)/.done ## Set everything up, and run ruff, mypy and all tests.
	$(PYTEST)

setup: $(VENV)/.dev $(CLIENTS)/.done ## Install what running and testing need into .venv.

fmt: $(VENV)/.dev ## Format the code and mend what ruff can mend.
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

lint: $(VENV)/.dev ## Check format and style.
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

typecheck: $(VENV)/.dev ## Check types (mypy --strict).
	$(BIN)/mypy $(CODE)

test-unit: requisites $(VENV)/.dev ## Run the tests of the parts.
	$(PYTEST) tests/unit

test-integration: requisites $(VENV)/.dev ## Run the tests of what the services share on real servers.
	$(PYTEST) tests/integration

test-e2e: requisites $(VENV)/.dev ## Run the tests of the whole: four real processes, and the page in Chromium.
	$(PYTEST) tests/e2e

test-conformance: $(VENV)/.dev $(CLIENTS)/.done ## Hold the inference service to its protocol, and run published clients against it.
	$(PYTEST) tests/conformance tests/clients

test-charts: requisites $(VENV)/.dev $(CLIENTS)/.done ## Check the charts: schemas, rendered objects, kube-score.
	$(PYTEST) tests/charts

e2e: $(VENV)/.dev $(CLIENTS)/.done ## Install the images of `make images` into the cluster of KUBECONFIG, and use it.
	@test -n "$(KUBECONFIG)" || { echo "KUBECONFIG names no cluster" >&2; exit 1; }
	$(BIN)/pytest tests/cluster

chart-schemas: $(VENV)/.run ## Write the schemas of the charts' values anew, after a change of settings.
	$(BIN)/python charts/schemas.py

settings-page: $(VENV)/.run ## Write docs/settings.md anew, after a change of settings.
	$(BIN)/python docs/settings.py

pictures: $(VENV)/.dev ## Photograph the pages that the README shows, with the product running.
	$(BIN)/python -m docs.pictures

dashboards: $(VENV)/.tools ## Write the dashboards of the chart anew from charts/dashboards.
	$(BIN)/python -m charts.dashboards

manifests: $(VENV)/.tools ## Render the plain manifests of k8s/ anew from the charts.
	$(BIN)/python k8s/render.py

k8s/dev/secrets.env:
	@umask 077; for key in postgres-password auth-password users-password admin-password; do \
		echo "$$key=$$(head -c 24 /dev/urandom | base64 | tr -d /+=)"; done > $@

bench: $(VENV)/.dev ## Compare the inference service with other servers (BENCH=--quick; see docs/benchmarks.md).
	$(BIN)/python -m benchmarks.inference $(BENCH)

bench-identity: $(VENV)/.dev ## Compare tokens and accounts with fastapi-users (see docs/benchmarks.md).
	$(BIN)/python -m benchmarks.identity

bench-telemetry: $(VENV)/.dev ## Measure what traces cost the inference service, in 7 minutes (BENCH=--help tells more).
	$(BIN)/python -m benchmarks.telemetry $(BENCH)

requisites: # Browser and servers for the tests.
	@PYTHON=$(PYTHON) tests/install-requisites
	@tests/charts/install-tools

# What the images hold. torch and the CUDA libraries that only it needs have a file of their own:
# an image takes them from the index that it is told.
SERVICES := auth users inference
TORCH_PACKAGES = $(shell sed -nE 's/^((torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z-]+)==).*/\2/p' requirements/dev.txt)
OTHER_PACKAGES = $(shell sed -nE 's/^([a-z0-9-]+)==.*/\1/p' requirements/inference.txt | sort -u)

lock: $(VENV)/.tools ## Lock the dependencies anew (UPGRADE=--upgrade for newer versions).
	$(COMPILE) $(addsuffix /pyproject.toml,$(PACKAGES)) requirements/dev.in --output-file requirements/dev.txt
	$(COMPILE) $(addsuffix /pyproject.toml,$(PACKAGES)) --constraints requirements/dev.txt --output-file requirements/run.txt
	$(COMPILE) requirements/clients.in --output-file requirements/clients.txt
	$(COMPILE) requirements/tools.in --constraints requirements/dev.txt --output-file requirements/tools.txt
	@for service in $(SERVICES); do \
		$(COMPILE) services/$$service/pyproject.toml $(addprefix --no-emit-package ,$(TORCH_PACKAGES)) \
			--constraints requirements/dev.txt --output-file requirements/$$service.txt || exit 1; \
	done
	@$(MAKE) --no-print-directory requirements/torch.txt

requirements/torch.txt: requirements/inference.txt requirements/dev.txt
	@echo 'torch torchvision' | tr ' ' '\n' | $(COMPILE) - $(addprefix --no-emit-package ,$(OTHER_PACKAGES)) \
		--constraints requirements/dev.txt --output-file $@

# $(call needs,TOOL,WHAT TO DO) ends a recipe with one line where a program is not there.
needs = @command -v $(1) >/dev/null || { echo "make $@ needs $(1), and it is not there: $(2)" >&2; exit 1; }
NEEDS_KIND = $(call needs,kind,see https://kind.sigs.k8s.io)
NEEDS_BUILDER = $(call needs,$(firstword $(BUILD)),install docker or podman; BUILD=... names another)

# BUILD is called as `BUILD IMAGE FOLDER --file FILE --build-arg NAME=VALUE...`.
BUILD ?= $(firstword $(shell command -v docker podman) docker) build --tag
REGISTRY ?= localhost
VERSION := $(shell sed -nE 's/^version = "(.*)"/\1/p' services/auth/pyproject.toml)
TAG ?= $(VERSION)
# PYTHON_IMAGE and TORCH_INDEX as the Dockerfiles explain them.
IMAGE_ARGUMENTS = VERSION=$(VERSION) REVISION=$(shell git rev-parse --short HEAD 2>/dev/null) \
	$(if $(PYTHON_IMAGE),PYTHON_IMAGE=$(PYTHON_IMAGE))

images: $(addprefix image-,$(SERVICES)) ## Build the images (REGISTRY, TAG, TORCH_INDEX; BUILD='podman build --tag').

image-auth image-users image-inference: image-%:
	$(NEEDS_BUILDER)
	$(BUILD) $(REGISTRY)/pinhole/$*:$(TAG) . --file services/$*/Dockerfile $(addprefix --build-arg ,$(IMAGE_ARGUMENTS)) \
		$(if $(and $(TORCH_INDEX),$(filter inference,$*)),--build-arg TORCH_INDEX=$(TORCH_INDEX))

image-postgres: ## Build what stands in for the official image of PostgreSQL, where that cannot be pulled.
	$(NEEDS_BUILDER)
	$(BUILD) docker.io/library/postgres:$(shell sed -nE 's/^ +tag: (.+-bookworm)$$/\1/p' charts/pinhole/values.yaml) tests/cluster/postgres \
		$(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE))

up: ## Start a cluster on this machine with kind, and an ingress controller on ports 8080 and 8443.
	$(NEEDS_KIND)
	$(call needs,helm,see https://helm.sh)
	kind create cluster --config k8s/kind.yaml
	helm upgrade traefik traefik --install --repo https://traefik.github.io/charts --namespace ingress --create-namespace \
		--set service.type=NodePort --set ports.web.nodePort=30080 --set ports.websecure.nodePort=30443 --wait

load: ## Put the images of `make images` into that cluster (REGISTRY, TAG as there).
	$(NEEDS_KIND)
	kind load docker-image --name pinhole $(SERVICES:%=$(REGISTRY)/pinhole/%:$(TAG))

down: ## Remove that cluster, and all that is in it.
	$(NEEDS_KIND)
	kind delete cluster --name pinhole

clean: ## Remove .venv, caches and what builds left. Accounts and keys in .pinhole stay.
	rm -rf $(VENV) $(CLIENTS) .mypy_cache .pytest_cache .ruff_cache .hypothesis build
	find services tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.tools: requirements/tools.txt
	@command -v $(PYTHON) >/dev/null || { \
		echo "Pinhole needs Python 3.11 or newer, and $(PYTHON) is not there: install it, or name it with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Pinhole needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1): name another with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/tools.txt
	@touch $@

$(VENV)/.run: $(VENV)/.tools requirements/run.txt $(addsuffix /pyproject.toml,$(PACKAGES))
	@echo "Installing the locked dependencies. The first time that is a download of about 2.5 GB, most of it PyTorch."
	@$(INSTALL) --require-hashes --requirement requirements/run.txt
	@$(INSTALL) --quiet --no-deps --no-build-isolation $(addprefix --editable ,$(PACKAGES))
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "Installing what the tests need"
	@$(INSTALL) --require-hashes --requirement requirements/dev.txt
	@touch $@

$(CLIENTS)/.done: $(VENV)/.tools requirements/clients.txt
	@echo "Installing the clients of Triton and KServe, and Helm 3, for the tests"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(CLIENTS)
	@$(BIN)/uv pip install --quiet --python $(CLIENTS)/bin/python --require-hashes --requirement requirements/clients.txt
	@touch $@
