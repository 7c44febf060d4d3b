"""The Python of docs/notebook.md runs, from top to bottom."""

import re

import matplotlib
import pytest

from .conftest import ROOT

pytestmark = pytest.mark.slow


def test_the_blocks_of_the_notebook_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    text = (ROOT / "docs" / "notebook.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 5
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/notebook.md", "exec"), names)
    assert capsys.readouterr().out == ""  # nothing prints
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "mine.npz", "mine.safetensors"}
    assert repr(names["run"]) == "Run('runs/digits'), finished"
    assert 0 <= names["result"].accuracy <= 1
    for shown in (names["result"], names["classifier"]):  # as the last line of a cell
        assert len(repr(shown)) < 600 and "array" not in repr(shown)
