# make demo    transfer to a few images, compare with training from scratch, draw
# make test    the linters, the type checker and the whole test suite
# make quick   the same with the fast tests only
# make site    the documentation as a site, in build/site
# make notebooks  executes the notebooks, and saves them with their outputs
# make lock    requirements-lock.txt anew, from the newest packages that fit
#
# All need Python 3.11 or newer and set up their own .venv; see README.md for the steps by hand.

PYTHON ?= python3
BIN := .venv/bin
MIXER := $(BIN)/python -m mlp_mixer

.PHONY: demo test quick check lock notebooks site clean

demo: .venv/train.stamp
	$(BIN)/python train.py --config=configs/transfer.py:nano,digits --workdir=demo/transfer \
		--config.init_from=cifar10/Mixer-nano
	$(BIN)/python train.py --config=configs/transfer.py:nano,digits --workdir=demo/scratch
	$(MIXER) evaluate --checkpoint=demo/transfer --figure=demo/transfer.png
	$(MIXER) evaluate --checkpoint=demo/scratch --figure=demo/scratch.png
	$(MIXER) filters --checkpoint=cifar10/Mixer-nano --out=demo/filters.png
	$(MIXER) curves demo/transfer demo/scratch --out=demo/curves.png

test: check
	$(BIN)/python -m pytest

quick: check
	$(BIN)/python -m pytest -m "not slow"

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/mypy

.venv/train.stamp: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + \
		"; name another one: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/dev.stamp: .venv/train.stamp requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

site: .venv/dev.stamp
	$(BIN)/python scripts/build_site.py

notebooks: .venv/dev.stamp
	$(BIN)/python -m notebooks.save

lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet -r requirements-dev.txt
	( sed -n '/^[^#]/q; p' requirements-lock.txt; \
		build/lock/bin/python -m pip freeze --exclude-editable ) > build/lock/frozen
	mv build/lock/frozen requirements-lock.txt

clean:
	rm -rf .venv demo
