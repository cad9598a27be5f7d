# The commands of the README. Each one makes .venv ready first; see tools/setup.sh.
# make demo [ARGS=--once] · make test [ARGS=tests/core] · make lint · make bench
.PHONY: demo test lint bench clean
python := .venv/bin/python

demo:
	@sh tools/setup.sh base
	@$(python) -m nerite demo $(ARGS)

test:
	@sh tools/setup.sh dev
	@$(python) -m pytest $(ARGS)

lint:
	@sh tools/setup.sh dev
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	.venv/bin/lint-imports

bench:
	@sh tools/setup.sh dev
	@$(python) benchmarks/first_picture.py
	@$(python) benchmarks/startup.py
	@$(python) benchmarks/paint.py $(ARGS)

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
