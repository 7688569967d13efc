# Two commands a newcomer needs: make demo, make test. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
LLAMA = $(VENV)-llama
TORCH = $(VENV)-torch
SERVE ?= 1
WORKERS ?= auto
DATA := $(wildcard ../shared/data)
export INTERLOCK_DATA ?= $(abspath $(DATA))
HAS_TORCH = $(wildcard $(TORCH)/.done)
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test torch check lint types browser eval-demo bench-demo bench-knowledge verify-live lock models clean screenshots

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/.run: requirements/demo.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing (locked, with hashes) into $(VENV)"
	@$(BIN)/python tools/install.py requirements/demo.txt
	@PATH="$(abspath $(BIN)):$$PATH" $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	@$(BIN)/python tools/install.py requirements/test.txt
	@touch $@

# LlamaIndex pins another major version of `openai` than the tests use: an environment of its own.
$(LLAMA)/.done: requirements/llama.txt
	@test -x $(LLAMA)/bin/python || $(PYTHON) -m venv $(LLAMA)
	@echo "Installing LlamaIndex (locked, with hashes) into $(LLAMA)"
	@$(LLAMA)/bin/python tools/install.py requirements/llama.txt
	@touch $@

# torch is larger than everything else together, and has other wheels on other machines: no hashes.
$(TORCH)/.done: requirements/torch.txt
	@test -x $(TORCH)/bin/python || $(PYTHON) -m venv $(TORCH)
	@echo "Installing torch and sentence-transformers into $(TORCH)"
	@$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	@touch $@

torch: $(TORCH)/.done ## The environment of tests that need torch (1.5 GB); `make test` uses it where it is

demo: $(VENV)/.run ## Install, fetch models, ingest the handbook, ask it four questions, serve (SERVE=0 stops before)
	@$(BIN)/interlock --workspace examples/handbook demo $(if $(filter 0,$(SERVE)),--no-serve,--serve)

models: $(VENV)/.run ## Fetch the default models
	@$(BIN)/interlock models fetch

test: $(VENV)/.test $(LLAMA)/.done models ## Run every test (browser tests need Chromium)
	@if command -v chromium >/dev/null || [ -n "$$CI" ]; then :; else \
	  echo "No chromium here: browser tests are left out. Install it (Debian: apt-get install chromium) to run them."; fi
	@[ -n "$(HAS_TORCH)" ] || echo "No $(TORCH) here: tests that need torch are left out. Make it (make torch) to run them."
	INTERLOCK_LLAMA_INDEX_PYTHON=$(abspath $(LLAMA))/bin/python $(if $(HAS_TORCH),INTERLOCK_TORCH_PYTHON=$(abspath $(TORCH))/bin/python) $(BIN)/python -m pytest -n $(WORKERS) $$(command -v chromium >/dev/null || [ -n "$$CI" ] || echo "-m 'not browser'")

lint: $(VENV)/.test ## Format, lint and import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.test ## mypy --strict
	$(BIN)/mypy

check: lint types test ## What CI runs

eval-demo: $(VENV)/.run models ## Golden set of the handbook through the default local stack, with intervals
	@$(BIN)/python -m benchmarks.eval_demo

bench-knowledge: $(VENV)/.test models ## Retrieval bars on public sets, through the product (INTERLOCK_DATA)
	@$(BIN)/python -m benchmarks.knowledge

bench-demo: $(VENV)/.run models ## Time to the first quote and to the whole answer
	@$(BIN)/python -m benchmarks.bench_demo

verify-live: $(VENV)/.run models ## Golden set on a live endpoint: make verify-live MODEL=gpt-4.1-mini [KIND=anthropic] [BASE_URL=…] [CAP_USD=0.50]
	@$(BIN)/interlock --workspace examples/handbook verify-live $(or $(MODEL),gpt-4.1-mini) --kind $(or $(KIND),openai) \
	  $(if $(BASE_URL),--base-url $(BASE_URL)) --cap-usd $(or $(CAP_USD),1.00) $(ARGS)

screenshots: $(VENV)/.test models ## Pictures of the console for the docs
	@$(BIN)/python tools/screenshots.py

lock: ## Lock dependencies with hashes
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  --extra knowledge --extra local --extra mcp --extra postgres --extra redis pyproject.toml requirements/build.in -o requirements/demo.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  requirements/test.in -o requirements/test.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  requirements/llama.in -o requirements/llama.txt

clean: ## Remove what was built (not the demo's data)
	rm -rf $(VENV) $(LLAMA) $(TORCH) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
