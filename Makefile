# make demo: pretrain, transfer, evaluate, draw.  make test: the test suite.
# Both need Python 3.11 or newer and set up their own .venv; see README.md for the steps by hand.

PYTHON ?= python3
BIN := .venv/bin
MIXER := $(BIN)/python -m mlp_mixer

.PHONY: demo test clean

demo: .venv/train.stamp
	$(BIN)/python train.py --config=configs/digits.py --workdir=demo/digits
	$(BIN)/python train.py --config=configs/transfer.py:digits,place --workdir=demo/transfer \
		--config.init_from=demo/digits
	$(BIN)/python train.py --config=configs/transfer.py:digits,place --workdir=demo/scratch
	$(MIXER) evaluate --checkpoint=demo/digits --figure=demo/digits.png
	$(MIXER) evaluate --checkpoint=demo/transfer --figure=demo/transfer.png
	$(MIXER) filters --checkpoint=demo/digits --out=demo/filters.png
	$(MIXER) filters --checkpoint=demo/transfer --out=demo/filters_transfer.png
	$(MIXER) curves demo/digits --out=demo/curves.png
	$(MIXER) curves demo/transfer demo/scratch --out=demo/curves_transfer.png

test: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

.venv/train.stamp: requirements.txt
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

clean:
	rm -rf .venv demo
