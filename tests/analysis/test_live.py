"""A run in a notebook: what its cell shows while it trains, and how it is stopped there."""

import base64
import io
import re
import signal
import sys
import time

import ml_collections
import numpy as np
import pytest
from PIL import Image

from mlp_mixer import run
from mlp_mixer.analysis import live
from mlp_mixer.runtime import notebooks
from mlp_mixer.training.preemption import Preemption

from ..forks import FEW_COLLECTIONS, ROOT

CONFIG = ml_collections.ConfigDict()


class Handle:
    """What a notebook gives for an output: keeps each content that it has had."""

    def __init__(self, text):
        self.contents = [{"text/plain": text}]

    def update(self, content, raw, metadata=None):
        self.contents.append(content)


@pytest.fixture
def handles(monkeypatch) -> list[Handle]:
    made = []
    monkeypatch.setattr(live, "_show", lambda text: made.append(Handle(text)) or made[-1])
    return made


def test_many_reports_are_few_pictures_and_the_last_is_complete(handles):
    with live.LiveRun("mine") as view:
        began = time.perf_counter()
        for step in range(200):
            view.scalars(step, {"train/loss": 1 / (1 + step), "train/accuracy": 0.5})
        adding = time.perf_counter() - began
        while len(handles[1].contents) < 2:
            time.sleep(0.01)
        for step in range(200, 204):
            view.scalars(step, {"train/loss": 0.5})
            time.sleep(0.3)
        view.scalars(204, {"test/loss": 0.25, "test/accuracy": 0.75})
        ended = time.perf_counter()
    assert adding < time.perf_counter() - ended  # no step waits for a picture
    first, *between, last = [content["text/plain"] for content in handles[1].contents]
    assert "first report" in first and len(between) == 1
    assert last == "step 204, test/loss 0.25, test/accuracy 0.75"
    small, large = (Image.open(io.BytesIO(x["image/png"])) for x in handles[1].contents[1:])
    assert np.asarray(large).size >= np.asarray(small).size


def test_what_comes_while_a_picture_is_made_is_in_the_last_one(handles, monkeypatch):
    def update(self, content, raw, metadata=None):
        view.scalars(len(self.contents) + 1, {"train/loss": 1.0})
        view._is_closed = True  # as at the end of the run
        self.contents.append(content)

    monkeypatch.setattr(Handle, "update", update)
    with live.LiveRun("mine") as view:
        view.scalars(1, {"train/loss": 1.0})
    assert [x["text/plain"][:6] for x in handles[1].contents[1:]] == ["step 1", "step 2"]


def test_a_notebook_that_shows_nothing_costs_no_run(handles, monkeypatch, caplog):
    def fail(*arguments, **options):
        raise RuntimeError("no connection")

    monkeypatch.setattr(Handle, "update", fail)
    with live.LiveRun("mine") as view:
        view.scalars(1, {"train/loss": 1.0})
    assert "not drawn any more (RuntimeError: no connection)" in caplog.text


def test_only_a_kernel_makes_a_notebook(as_notebook, monkeypatch):
    assert notebooks.in_notebook()
    shell = sys.modules["IPython"].get_ipython()
    monkeypatch.delattr(shell, "kernel")  # as IPython in a terminal
    assert not notebooks.in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert not notebooks.in_notebook()


@pytest.mark.slow
def test_only_process_0_of_a_notebook_shows_a_run(as_notebook, finished, monkeypatch):
    views = []
    monkeypatch.setattr(run.loop, "train", lambda config, workdir, view, *_: views.append(view))
    run.train(CONFIG, finished.workdir)
    monkeypatch.setattr(run.jax, "process_index", lambda: 1)
    run.train(CONFIG, finished.workdir)
    monkeypatch.undo()
    monkeypatch.setattr(run.loop, "train", lambda config, workdir, view, *_: views.append(view))
    run.train(CONFIG, finished.workdir)  # not in a notebook
    assert [type(view) for view in views] == [live.LiveRun, type(None), type(None)]


@pytest.mark.slow
def test_a_run_in_the_current_folder_is_shown_by_its_name(as_notebook, finished, monkeypatch):
    names = []
    monkeypatch.setattr(run, "LiveRun", names.append)
    monkeypatch.setattr(run.loop, "train", lambda *_: None)
    monkeypatch.chdir(finished.workdir)
    run.train(CONFIG, ".")
    assert names == [finished.workdir.name]


def test_a_second_interrupt_ends_the_cell_not_the_kernel(as_notebook):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Preemption():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


# --- in a kernel ---

SETTING = f"""
import gc; gc.set_threshold{FEW_COLLECTIONS}
import logging, signal, jax, mlp_mixer
from mlp_mixer.training.progress import Meter
config = mlp_mixer.config({{config!r}})
add = Meter.add
def interrupted(self, step, values):
    if step == 4:
        signal.raise_signal(signal.SIGINT)
    return add(self, step, values)
"""
INTERRUPTED = """
Meter.add = interrupted
mlp_mixer.train(config, {workdir!r})
"""
AGAIN = """
Meter.add = add
mlp_mixer.train(config, {workdir!r})
"""
QUIET = """
logging.getLogger("mlp_mixer").setLevel("ERROR")
mlp_mixer.train(config, {workdir!r}, live=False)
"""


@pytest.fixture(scope="module")
def notebook(finished, tmp_path_factory):
    """The cells above, executed in one kernel; their outputs, and the workdir."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    config, workdir = finished.workdir / "config.json", tmp_path_factory.mktemp("cells") / "run"
    cells = [
        nbformat.v4.new_code_cell(source.format(config=str(config), workdir=str(workdir)))
        for source in (SETTING, INTERRUPTED, "len(jax.live_arrays())", AGAIN, QUIET)
    ]
    client = nbclient.NotebookClient(
        nbformat.v4.new_notebook(cells=cells), timeout=300, allow_errors=True,
        kernel_name="python3", resources={"metadata": {"path": str(ROOT)}},
    )  # fmt: skip
    executed = client.execute()
    return [cell.outputs for cell in executed.cells], workdir


def kinds(outputs) -> list[str]:
    found = [x.get("name", x.output_type) for x in outputs]
    return [kind for i, kind in enumerate(found) if found[i - 1 : i] != [kind]]


@pytest.mark.slow
def test_an_interrupted_cell_is_saved_and_shows_no_traceback(notebook):
    (_, outputs, live_arrays, _, _), _ = notebook
    (error,) = [x for x in outputs if x.output_type == "error"]
    words = "Stopped at step 4, which is saved. To go on, run this cell again."
    assert (error.ename, error.evalue, error.traceback) == ("Stopped", words, [words])
    shown = [x for x in outputs if x.output_type == "display_data"]
    assert len(shown) == 2 and "4/6" in shown[0].data["text/plain"] and "image/png" in shown[1].data
    # IPython keeps the error: were the state reachable from it, a second one might not fit.
    assert live_arrays[0].data["text/plain"] == "0"


@pytest.mark.slow
def test_the_cell_run_again_goes_on_and_ends_with_the_same_bits(notebook, finished):
    (_, _, _, outputs, _), workdir = notebook
    assert not [x for x in outputs if x.output_type == "error"]
    text = "".join(x.text for x in outputs if x.output_type == "stream")
    assert "continuing after step 4 of 6" in text and "step 6/6  test accuracy" in text
    for name, array in np.load(finished.workdir / "model.npz").items():
        np.testing.assert_array_equal(array, np.load(workdir / "model.npz")[name])


@pytest.mark.slow
def test_a_cell_shows_one_bar_and_one_picture_that_stay(notebook):
    (_, _, _, outputs, _), _ = notebook
    assert "stderr" not in kinds(outputs)
    bar, picture = [x for x in outputs if x.output_type == "display_data"]
    assert re.search(r"100%.* 6/6 .*\nstep 6/6  loss ", bar.data["text/plain"])
    assert picture.data["text/plain"].startswith("step 6, test/accuracy")
    image = Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"])))
    assert image.width == 2 * picture.metadata["image/png"]["width"]
    assert outputs[-1].data["text/plain"].endswith("finished")


@pytest.mark.slow
def test_live_can_be_turned_off(notebook):
    (*_, outputs), _ = notebook
    assert "display_data" not in kinds(outputs) and outputs[-1].output_type == "execute_result"
