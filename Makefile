# Everything is installed into .venv; python3, make and a network are all it takes.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: check test lint figures clean

# The main job: every claim at the quick tier, the verdict table and the report in out/.
check: $(INSTALLED)
	$(BIN)/python paper_checks.py

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Draws from the evidence that the last run recorded in out/.
figures: $(INSTALLED)
	$(BIN)/python -m figures

# Leaves .venv and the recorded results in out/ alone.
clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# The build tool comes first, pinned as well, so that the build is not isolated from it.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@
