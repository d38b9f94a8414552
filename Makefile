# Every target sets up .venv by itself. `make demo` runs the main job, `make test` the tests.
PYTHON ?= python3
VENV ?= .venv
RECIPE ?= recipes/v2_int8.yaml
INSTALLED = $(VENV)/installed

.PHONY: demo test slow crash fuzz lint docs clean

demo: $(INSTALLED)
	$(VENV)/bin/mbcompress run $(RECIPE)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -rs -n auto --dist loadfile

# what `make test` leaves out; about ten minutes
slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -rs -n auto -m slow

# a hundred runs killed at random moments; takes about half an hour
crash: $(INSTALLED)
	$(VENV)/bin/python tests/crash.py --kills 100

# 60,000 damaged recipes, weights, images and archives; takes about six minutes
fuzz: $(INSTALLED)
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/fuzzing/run.py

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python docs/generate.py --check

docs: $(INSTALLED)
	$(VENV)/bin/python docs/generate.py

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
