# Two commands do everything on a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Half of what the tests do is waiting: three keep two cores busy.
WORKERS ?= 3
ARGS ?=
# Thousands of small files: in memory where there is room for them.
MEMORY := $(shell [ -w /dev/shm ] && [ "$$(df -k --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 4194304 ] && echo /dev/shm)
# Some hundred processes of `vedette` are started: where the environment forbids it, each would compile its sources anew.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(if $(MEMORY),PYTEST_DEBUG_TEMPROOT=$(MEMORY)) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help demo test test-packaging test-wheel soak manifests lint lint-packaging format docs bench deb clean
help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[all]" --group demo
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt $(VENV)/.demo
	$(PIP) install -c constraints.txt --group test
	@touch $@

$(VENV)/.lint: pyproject.toml constraints.txt $(VENV)/.test
	$(PIP) install -c constraints.txt --group lint
	@touch $@

$(VENV)/.packaging: pyproject.toml constraints.txt $(VENV)/.test
	$(PIP) install -c constraints.txt --group packaging
	@touch $@

demo: $(VENV)/.demo  ## run the agent on a real Redis with traffic; ARGS="--for 30s" ends it by itself
	@$(BIN)/python examples/demo $(ARGS)

test: $(VENV)/.test  ## run the tests; ARGS="tests/core -k outbox" picks some
	@$(PYTEST) $(ARGS)

soak: $(VENV)/.test  ## the long tests, beyond those of `make test`
	@$(PYTEST) -m soak $(ARGS)

test-packaging: $(VENV)/.packaging  ## install package, image and chart for real: needs root, apt, and half an hour at most
	@$(if $(MEMORY),PYTEST_DEBUG_TEMPROOT=$(MEMORY)) $(BIN)/python -m pytest -n0 -rs -m packaging tests/packaging $(ARGS)

lint-packaging: $(VENV)/.packaging  ## of test-packaging what takes seconds: chart, manifests, Dockerfile, the wheel's bytes
	@$(if $(MEMORY),PYTEST_DEBUG_TEMPROOT=$(MEMORY)) $(BIN)/python -m pytest -n0 -rs -m "packaging and not slow" \
		tests/packaging/test_chart.py tests/packaging/test_image.py tests/packaging/test_wheel.py $(ARGS)

test-wheel: $(VENV)/.packaging  ## install the wheel with pip on every Python from 3.11 on that is here, and run it (a minute)
	@$(if $(MEMORY),PYTEST_DEBUG_TEMPROOT=$(MEMORY)) $(BIN)/python -m pytest -n0 -rs -m packaging \
		tests/packaging/test_wheel.py -k test_it_installs $(ARGS)

deb: $(VENV)/.packaging  ## build the Debian package into dist
	@$(BIN)/python packaging/deb/build.py $(ARGS)

lint: $(VENV)/.lint  ## ruff, mypy --strict, pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.lint  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.test  ## write the generated parts of READMEs and example files anew
	$(BIN)/python -m vedette.render

manifests: $(VENV)/.packaging  ## write packaging/kubernetes/vedette*.yaml and the chart's README from the chart
	$(BIN)/python packaging/helm/render.py

bench: $(VENV)/.test  ## measure CPU, memory and lateness (a few minutes)
	$(BIN)/python bench/run.py $(ARGS)

clean:  ## remove the environment and everything built
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
