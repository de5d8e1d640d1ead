# `make demo` and `make test` are all a fresh machine needs: each makes .venv from constraints.txt first.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
CPU_WHEELS := https://download.pytorch.org/whl/cpu

# The pinned versions need Python 3.11 or newer: the first interpreter that is.
PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12 python3.13 python3.14,$(shell \
	$(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))

# Once installed, nothing here needs a network, and nothing may ask for one unnoticed.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 GRADIO_ANALYTICS_ENABLED=False

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check lint fix smoke bench clean

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/demo.stamp ## Serve the Space on this machine and print its address.
	$(OFFLINE) $(BIN)/python app.py

test: $(VENV)/dev.stamp ## Run the tests that take seconds each, offline, on two cores.
	$(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/dev.stamp ## Run the tests that take longer.
	$(OFFLINE) $(BIN)/python -m pytest -m "slow and not network"

lint: $(VENV)/dev.stamp ## Look for mistakes, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy sgenet_hf

check: lint test ## Everything a change must pass.

fix: $(VENV)/dev.stamp ## Mend what ruff can mend.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

smoke: $(VENV)/dev.stamp ## Train two steps on generated scenes into a throw-away folder.
	out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && \
	$(OFFLINE) $(BIN)/python train_accelerate.py recipes/toy.yaml --dataset toy:16 \
		--total_samples 16 --warmup_samples 8 --validation_samples 4 --log_every_samples 8 \
		--output_dir "$$out"

bench: $(VENV)/dev.stamp ## Print parameters, GFLOP, time and memory at 256, 512 and 1024.
	$(OFFLINE) $(BIN)/python -m eval.benchmark

clean: ## Remove the environment and caches.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

# torch first and alone, because a plain install would fetch gigabytes of CUDA libraries on a machine without a GPU:
# the CPU build from the configured package sources, else from PyTorch's own index of CPU wheels.
$(VENV)/torch.stamp: constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt setuptools
	@if nvidia-smi >/dev/null 2>&1 || [ "$$(uname)" = Darwin ]; then \
		echo "Installing torch $(TORCH)"; \
		$(PIP) install -q -c constraints.txt torch==$(TORCH); \
	else \
		echo "Installing torch $(TORCH), CPU build"; \
		$(PIP) install -q --no-deps torch==$(TORCH)+cpu 2>/dev/null \
			|| $(PIP) install -q --no-deps --index-url $(CPU_WHEELS) torch==$(TORCH)+cpu; \
	fi
	@touch $@

$(VENV)/%.stamp: $(VENV)/torch.stamp pyproject.toml
	@echo "Installing sgenet_hf[$*] from constraints.txt"
	$(PIP) install -q --no-build-isolation -c constraints.txt -e '.[$*]'
	@touch $@
