# make run    environment if there is none, then the default study
# make test   environment and test extras if need be, then the tests
# make test-cluster   the tests that start clusters of Ray, PostgreSQL and an object store, and those of the files that
#             launch clusters; CLUSTER_TESTS="FILE ..." runs some of them
# make faults the same, then forty and more faults, at random moments of real studies (some need root)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STUDY  ?= studies/digits.yaml
CLUSTER_TESTS ?= tests/cluster

.PHONY: run test test-cluster faults benchmark clean

run: $(VENV)/.installed
	$(BIN)/losstune run $(STUDY)

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	# The tests of a file share the studies that they run; the files come in the order that tests/conftest.py gives them.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/cluster

test-cluster: $(VENV)/.installed-cluster
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || apt-get install -y -qq postgresql >/dev/null 2>&1 || \
	    echo "PostgreSQL is not here, and cannot be installed: its tests are skipped"
	$(BIN)/python -m pytest $(CLUSTER_TESTS)

faults: $(VENV)/.installed-test
	PYTHONPATH=tests $(BIN)/python -m faults $(FAULTS)

benchmark: $(VENV)/.installed
	$(BIN)/python benchmarks/study.py

# constraints.txt pins every version, torch and torchvision as the pair that belongs together: whatever other torch
# pip is offered, it installs these. For CPU-only wheels set PIP_EXTRA_INDEX_URL as the README says.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "losstune needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/.installed-cluster: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,cluster,aws,gcp,postgresql,cluster-test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
