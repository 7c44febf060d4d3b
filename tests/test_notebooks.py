"""The notebooks run from top to bottom; their saved outputs come from their source."""

import ast
import base64
import importlib.util
import io
import os
import re
import textwrap

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

import mlp_mixer
from notebooks import save

from .conftest import ROOT
from .forks import FEW_COLLECTIONS

slow = pytest.mark.slow
every_notebook = pytest.mark.parametrize("name", save.NAMES)
LARGEST = 700_000  # bytes of a notebook
PICTURES = {
    "quick_start": ["weights", "predict", "features", "filters"],
    "fine_tune": ["train", "errors", "confusion"],
    "pretrain_and_study": ["pretrain", "filters", "permutation", "landscape"],
}
# To compile for a TPU takes long, and other tests do it.
SETTING = f"""
import gc; gc.set_threshold{FEW_COLLECTIONS}
import importlib.util
def find_others(name, *package, find_spec=importlib.util.find_spec):
    return None if name == "libtpu" else find_spec(name, *package)
importlib.util.find_spec = find_others
"""
# Run in the kernel after all cells, against what the notebook did not compute.
CHECKS = {
    "quick_start": """
        assert len(pictures) == len(classified) == 6 and all(len(one) == 3 for one in classified)
        found = jax.nn.softmax(logits)
        for row, guesses in zip(found, classified):
            for guess in guesses:
                place = classifier.class_names.index(guess.name)
                assert abs(row[place] - guess.probability) < 1e-4
        assert layers[0] == "stem" and layers[-1] == f"MixerBlock_{module.num_blocks - 1}"
        """,
    "fine_tune": """
        import glob, json, zipfile
        count = [len(glob.glob(f"landscapes/{part}/*/*.png")) for part in ("train", "test")]
        assert count == [32, 16] and result.examples == 16, count
        assert run.is_finished and run.step == steps and run.config.lr == lr
        assert run.config.init_from == init_from and run.config.model.hidden_dim == 96
        assert run.class_names == ("city", "desert", "forest", "sea")
        views = np.stack([result.view(i) for i in range(16)])
        kept = mlp_mixer.load_classifier("kept/model.npz")
        with zipfile.ZipFile("kept/model.zip") as file:
            assert json.loads(file.read("about.json"))["class_names"] == list(run.class_names)
            exported = jax.export.deserialize(bytearray(file.read("model.jax"))).call
        for found in (kept.of_views(views), np.asarray(exported(views))):
            assert np.allclose(found.max(1), result.predictions.confidences, atol=1e-3)
        assert "landscapes" in open("kept/report.html").read()
        """,
    "pretrain_and_study": """
        assert set(shuffled.points) == {("mixer", "original"), ("mixer", "patches")}
        assert {points[-1][0] for points in shuffled.points.values()} == {run.step}
        assert sam.config.sam.rho_max == sam.config.sam.rho_min == rho and sam.step == run.step
        matrix = np.random.default_rng(0).normal(size=(12, 12))
        matrix += matrix.T
        loss, iterations = lambda x: x @ jnp.float32(matrix) @ x / 2, 12
        value, direction = sharpest(jnp.zeros(12))
        values, vectors = np.linalg.eigh(matrix)
        assert abs(value - values[-1]) < 1e-4
        assert abs(abs(direction @ vectors[:, -1]) - 1) < 1e-4
        """,
}


def code(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The code cells by name, as Python."""
    plain = TransformerManager().transform_cell
    return {cell.id: plain(cell.source) for cell in notebook.cells if cell.cell_type == "code"}


def outputs(notebook: nbformat.NotebookNode, kind: str) -> dict[str, list[str]]:
    """What each cell shows of one kind, such as image/png; of text/plain also what it prints."""
    return {
        cell.id: [
            output.text if output.output_type == "stream" else output.data[kind]
            for output in cell.outputs
            if kind in output.get("data", ())
            or (kind == "text/plain" and output.get("name") == "stdout")
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def is_drawn(png: str) -> bool:
    """Whether a picture is of a sensible size and shows something."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))
    return min(pixels.shape[:2]) > 150 and pixels.std() > 5


@slow
@every_notebook
def test_a_notebook_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    """And the one that writes most files does so once more in the same folder."""
    for variable in ("http_proxy", "https_proxy"):  # a closed port: no notebook needs a download
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("MLP_MIXER_SMALL", "1")
    notebook = save.read(name)
    client = save.client(notebook, tmp_path)
    with client.setup_kernel(env=save.environment()):
        client.execute_cell(nbformat.v4.new_code_cell(SETTING), 0)
        for _ in range(2 if name == "fine_tune" else 1):
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
            check_outputs(name, notebook)
        check = nbformat.v4.new_code_cell(textwrap.dedent(CHECKS[name]))
        client.execute_cell(check, 0)


def check_outputs(name: str, notebook: nbformat.NotebookNode) -> None:
    text = {cell: "".join(shown) for cell, shown in outputs(notebook, "text/plain").items()}
    assert "1 x cpu" in text["backend"]
    pictures = outputs(notebook, "image/png")
    assert [cell for cell, shown in pictures.items() if shown] == PICTURES[name]
    assert all(is_drawn(png) for shown in pictures.values() for png in shown)
    if name == "fine_tune":
        assert re.search(r"^\d+\.\d% of \d+ test images", text["errors"])
        assert "landscapes" in outputs(notebook, "text/html")["report"][0]
    if name == "pretrain_and_study":
        assert re.search(r"Mixer +patches .+ [+-]\d+\.\d%\n", text["permutation"])
        assert re.search(r"Adam .+ [\d.]+\nSAM  .+ [\d.]+\n$", text["sam"])
        assert re.search("ms a step|libtpu is not installed", text["plan"])


def test_all_notebooks_begin_with_the_same_two_cells():
    first = [[cell.source for cell in save.read(name).cells[1:3]] for name in save.NAMES]
    assert first[0] == first[1] == first[2]


@pytest.fixture
def first_cells() -> dict[str, str]:
    return code(save.read("quick_start"))


class Notebook:
    """Notes what a cell asks of IPython."""

    def __init__(self):
        self.asked: list[str] = []

    def system(self, command: str) -> None:
        self.asked.append(command)

    def run_line_magic(self, name: str, line: str) -> None:
        self.asked.append(f"%{name} {line}")


@pytest.mark.parametrize("is_cloned", [False, True])
def test_the_first_cell_installs_what_is_missing(first_cells, is_cloned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if is_cloned:
        (tmp_path / "mlp-mixer").mkdir()
    shell = Notebook()
    names = {"get_ipython": lambda: shell}
    exec(first_cells["install"], names)
    assert shell.asked == []  # mlp_mixer is here
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(first_cells["install"], names)
    clone = "git clone --quiet --depth=1 {repository} mlp-mixer"
    assert shell.asked == [*([] if is_cloned else [clone]), "%pip install --quiet ./mlp-mixer"]


def test_a_notebook_stops_on_a_cpu_by_accident(first_cells, monkeypatch, capsys):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    names = {"os": os}
    with pytest.raises(RuntimeError, match="tick allow_cpu"):
        exec(first_cells["backend"], names)
    assert "x cpu" in capsys.readouterr().out  # says what it found
    exec(first_cells["backend"].replace("allow_cpu = False", "allow_cpu = True"), names)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    exec(first_cells["backend"], names)


@every_notebook
def test_notebooks_use_public_names_and_no_flags(name):
    found = set()
    for cell, source in code(save.read(name)).items():
        for node in ast.walk(ast.parse(source, cell)):
            if isinstance(node, ast.Import):
                found |= {one.name for one in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "mlp_mixer":
                assert node.attr in {*mlp_mixer.__all__, "__version__"}
            elif isinstance(node, ast.Attribute):
                assert ast.unparse(node) != "sys.argv"
    assert "mlp_mixer" in found
    assert not [module for module in found if re.match(r"mlp_mixer\.|absl|argparse", module)]


@every_notebook
def test_form_fields_are_plain_values(name):
    fields = [
        line
        for cell in save.read(name).cells
        for line in cell.source.splitlines()
        if "@param" in line
    ]
    assert len(fields) >= 4
    for line in fields:
        found = re.fullmatch(r'\w+ = (.+?)  # @param \{type: "(\w+)"\}', line)
        assert found, line
        kinds = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}
        assert isinstance(ast.literal_eval(found[1]), kinds[found[2]]), line


@every_notebook
def test_saved_outputs_come_from_the_saved_source(name):
    notebook = save.read(name)
    assert notebook.metadata == save.METADATA | {"source_sha256": save.digest(notebook)}
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(cell.metadata for cell in notebook.cells)
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}  # no error
    check_outputs(name, notebook)


@every_notebook
def test_saved_notebooks_are_small_and_name_no_machine(name):
    text = (save.FOLDER / f"{name}.ipynb").read_text()
    assert len(text) < LARGEST
    assert not re.search(r"/tmp/|/home/|/work/|site-packages|ename", text)


def test_saving_changes_nothing_but_outputs(tmp_path, monkeypatch):
    before = (save.FOLDER / "quick_start.ipynb").read_bytes()
    notebook = save.read("quick_start")
    notebook.metadata["widgets"] = {"a": 1}
    notebook.cells[1].metadata["execution"] = {"iopub.execute_input": "now"}
    monkeypatch.setattr(save, "FOLDER", tmp_path)
    save.save("quick_start", notebook)
    assert (tmp_path / "quick_start.ipynb").read_bytes() == before


def test_all_badges_name_the_same_repository():
    pages = [ROOT / "README.md", *save.FOLDER.glob("*.ipynb")]
    found = [re.findall(r"/github/([\w.-]+/[\w.-]+)/blob/main/(notebooks/\w+.ipynb)", text)
             for text in (page.read_text() for page in pages)]  # fmt: skip
    assert len(found[0]) == len(save.NAMES) and all(len(badges) == 1 for badges in found[1:])
    assert {(ROOT / file).exists() for badges in found for _, file in badges} == {True}
    [address] = {repository for badges in found for repository, _ in badges}
    for page in (*pages[1:], ROOT / "docs" / "guides" / "tpu.md"):
        assert re.search(rf"https://github.com/{address}\b", page.read_text()), page
