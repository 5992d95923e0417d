# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
NETWORKS := $(wildcard layers/networks/[a-z]*.py)

.PHONY: demo train test test-slow test-zoo test-layers test-serve test-browser test-cuda fuzz clean help

demo: .venv/ready ## export and prove the reference networks, and measure them on held-back data
	$(BIN)/exportkit export $(NETWORKS) --jobs 2
	$(BIN)/exportkit check $(patsubst layers/networks/%.py,artifacts/%,$(NETWORKS))
	$(BIN)/python -m layers.training.evaluate artifacts

train: .venv/ready ## make the weights of the reference networks again
	$(BIN)/python -m layers.training

test: .venv/ready ## lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 -m "not zoo and not cuda and not slow and not layers and not browser and not fuzz and not ray and not serve"

test-slow: .venv/ready ## what takes minutes
	$(BIN)/pytest -n 2 -m slow

test-zoo: .venv/ready ## export real networks; those of packages that are not installed skip
	$(BIN)/pytest -n 2 -m zoo -rs

test-layers: .venv/ready ## export every layer of the library and run it at other sizes
	$(BIN)/pytest -n 2 -m layers

test-serve: .venv/ready ## start servers, and ask them what clients of others ask, and worse
	$(BIN)/pip install -q -c constraints.txt -e '.[clients]'
	$(BIN)/pytest -n 2 -m serve -rs

fuzz: .venv/ready ## damage 2,000 artifacts of each format, and check each
	$(BIN)/pytest -n 2 -m fuzz

test-browser: .venv/ready ## look at a report in Chromium; skips where there is none
	$(BIN)/pytest -m browser -rs

test-ray: .venv/ready ## a Ray cluster of two nodes, in a network namespace with a loopback alone
	$(BIN)/pip install -q -c constraints.txt -e '.[ray]'
	$(BIN)/pytest -m ray -rs

test-cuda: .venv/ready ## what needs a GPU; skips with a reason elsewhere
	$(BIN)/pytest -m cuda -rs

# torch goes first and alone: pip then finds the CPU build where the machine has one.
.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	touch $@

clean: ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache *.egg-info

help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'
