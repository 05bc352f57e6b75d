# Every target works on its own in a fresh clone: what it needs, it makes first.
#
#     make book        the book, in _build/html/index.html
#     make test        unit tests and every notebook
#     make notebooks   regenerate and execute the notebooks from book/src
#
# PYTHON picks the interpreter that makes .venv (3.11 or later):
#     make book PYTHON=python3.13

PYTHON ?= python3
JOBS ?= logical
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FLOORS := _build/floors
BROWSER := _build/browser/node_modules
UV := $(BIN)/python -m uv
export VIRTUAL_ENV := $(abspath $(VENV))
# Threads that wait asleep: on shared cores, spinning ones cost a factor of ten.
export OMP_WAIT_POLICY ?= passive
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book test notebooks colab pages playground fuzz \
    mutants kills floors lint format lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

book: $(READY) ## build the book; warnings are errors
	@$(BIN)/jupyter-book build book -W -n --keep-going
	@echo "Open _build/html/index.html"

# ARGS goes to pytest: make test ARGS="-k schedule", make test ARGS="-m slow"
# JOBS is how many processes share the files, one core each; 0 runs all in one
test: $(READY) ## run the unit tests and every notebook
	@$(BIN)/python -m pytest --nbval -n $(JOBS) --maxprocesses 4 --dist loadfile $(ARGS)

# CHAPTERS limits the work: make notebooks CHAPTERS=01_vae; PROSE=1 executes nothing
notebooks: $(READY) ## regenerate and execute the notebooks from book/src
	@$(BIN)/python book/make_notebooks.py $(if $(PROSE),--prose) $(CHAPTERS)

# ARGS="-k starts" stops after the set-up, "-k 02_kl" takes one chapter
colab: $(READY) ## rehearse every chapter as Colab opens it, which takes minutes
	@$(UV) pip install --quiet --target _build/colab \
	    ipython==7.34.0 ipywidgets==7.7.1 "notebook<7"
	@$(BIN)/python -m pytest -s -m slow tests/book/test_colab.py $(ARGS)

playground: $(READY) ## renew the playground's graphs after a change of the model
	@$(BIN)/ldm-tutorial export --model ldm-f8-sharp --format onnx --fp16 --out _build/playground
	@cp _build/playground/*.onnx _build/playground/model.json book/_playground

pages: book $(BROWSER) ## look at the built book in Chromium, and in Firefox if it is there
	@$(BIN)/python -m pytest -m slow tests/book/test_pages.py \
	    tests/book/test_playground_page.py tests/book/test_playground_firefox.py $(ARGS)

$(BROWSER):
	@npm install --silent --no-save --prefix _build/browser \
	    playwright-core@1.65.1 axe-core@4.14.1

fuzz: $(READY) ## damage files of every kind at random; SECONDS=60 SEED=0
	@$(BIN)/python -m tests.fuzz $(or $(SECONDS),60) $(or $(SEED),0)

# MODULES limits the work, ARGS="--sample 40" takes so many of each; goes on where it was
mutants: $(READY) ## put one fault at a time into the library: do the tests notice?
	@$(BIN)/python -m tests.mutants $(MODULES) $(ARGS)

# TRIES SIGKILLs, and a fifth as many SIGTERMs
kills: $(READY) ## kill trainings and studies at random moments: do they end the same?
	@$(BIN)/python -m tests.kills $(or $(TRIES),100) --seconds 3600

# An environment of its own, as large as .venv
floors: ## run the unit tests with the lowest versions that pyproject.toml states
	@test -x $(FLOORS)/bin/python || $(PYTHON) -m venv $(FLOORS)
	@$(FLOORS)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(abspath $(FLOORS)) $(FLOORS)/bin/python -m uv pip install --quiet \
	    --resolution lowest-direct -e ".[book,test]"
	@$(FLOORS)/bin/python -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile \
	    tests --ignore tests/book $(ARGS)

lint: $(READY) ## check style, formatting and types, chapters included
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python book/lint_sources.py
	@$(BIN)/python -m mypy

format: $(READY) ## mend style and formatting, chapters included
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python book/lint_sources.py --fix

lock: $(READY) ## renew requirements.lock from pyproject.toml; UPGRADE=1 takes newer versions
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	    --no-annotate --python-version 3.11 --extra book --extra test \
	    $(if $(UPGRADE),--upgrade) pyproject.toml -o requirements.lock

clean: ## remove built pages and caches, keep .venv
	rm -rf _build .pytest_cache .ruff_cache
	find book ldm_tutorial tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "make: '$(PYTHON)' is missing or older than Python 3.11; name another: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); echo "make: no virtual environment could be made; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV), about 6 GB with the default build of torch ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(UV) pip install --quiet --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
