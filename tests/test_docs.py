"""The Python of README.md and of docs/ runs as it is written there, on files that tests make."""

import re
import shutil
import urllib.request

import matplotlib
import numpy as np
import optax
import pytest
from PIL import Image

import mlp_mixer
from configs import common
from mlp_mixer.models import known_classes, mixer
from mlp_mixer.training import fields
from mlp_mixer.weights import download, released

from . import published_checkpoint
from .conftest import ROOT

slow = pytest.mark.slow
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TESTED = {
    "README.md", "evaluation.md", "export.md", "input_size.md", "mixer_nano.md", "notebook.md",
    "own_images.md", "tpu.md", "weights.md",
}  # fmt: skip


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)


def execute(page: str, **names) -> dict:
    """The names that a page's blocks leave, which are run in order, after those given."""
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("a download"))
    matplotlib.use("agg")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder with files like the released ones, of the same patches and classes.

    They have two narrow blocks: weights/test_load.py reads and runs files of the full size.
    """
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        sizes = dict(num_blocks=2, hidden_dim=32, tokens_mlp_dim=16, channels_mlp_dim=64)
        patch.setitem(mixer.SIZES, "B", sizes)
        patch.setitem(published_checkpoint.SIZES, "B", tuple(sizes.values()))
        patch.setenv(download.CACHE_VARIABLE, str(folder))
        for name in ("imagenet1k/Mixer-B_16", "imagenet21k/Mixer-B_16"):
            path, what = download._cached(released.address(name)), released.RELEASED[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            published_checkpoint.write(path, what.variant, num_classes=what.num_classes)
        yield folder


@pytest.fixture
def short(monkeypatch):
    """Runs of a config take seconds in place of a minute."""
    in_full = mlp_mixer.config
    monkeypatch.setattr(
        mlp_mixer,
        "config",
        lambda name: in_full(name, total_epochs=0.0, total_steps=6, warmup_steps=1),
    )


def save_small(path, **sizes) -> None:
    module = mlp_mixer.create(
        num_blocks=1, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=16, num_classes=3, **sizes
    )
    mlp_mixer.save(path, module, mlp_mixer.init(module), class_names=("a", "b", "c"))


def test_every_page_with_python_is_run_here():
    assert {page.name for page in PAGES if "```python" in page.read_text()} == TESTED
    for page in PAGES:  # no Python in a block that is not marked as such
        unmarked = re.sub(r"```python\n.*?```", "", page.read_text(), flags=re.S)
        assert not re.search(
            r"^ *(import \w|from \w+ import|\w+ = mlp_mixer|class \w|def \w)", unmarked, re.M
        )


def place(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_link_between_files_leads_somewhere():
    count = 0
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        for file, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
            target = (page.parent / file).resolve() if file else page
            assert target.exists() and target.is_relative_to(ROOT), f"{page.name}: {file}"
            if anchor and not file.endswith(("api.md", "commands.md", "config.md")):  # of the site
                headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
                assert anchor in map(place, headings), f"{page.name}: {file}#{anchor}"
            count += 1
    assert count > 50


def test_pages_that_the_code_names_exist():
    files = [
        path
        for kind in ("*.py", "*.sh", "*.yaml", "*.toml")
        for path in ROOT.rglob(kind)
        if not {".venv", "build", "tests"}.intersection(path.relative_to(ROOT).parts)
    ]
    named = {(path.name, page) for path in files
             for page in re.findall(r"docs/[\w/]+\.md", path.read_text())}  # fmt: skip
    assert len(named) > 20
    assert not [one for one in named if not (ROOT / one[1]).is_file()]


@slow
def test_the_blocks_of_the_readme_run(cache, short, capsys):
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save("photo.jpg")
    assert len(blocks("README.md")) == 3
    names = execute("README.md", images=published_checkpoint.image_batch(1, 448))
    printed = re.findall(r"^\d+\.\d% (.+)$", capsys.readouterr().out, re.M)
    assert len(printed) == 3 and set(printed) <= set(known_classes.imagenet().names)
    assert names["logits"].shape == (1, 21_843)
    assert repr(names["run"]) == "Run('runs/digits'), finished"


def test_the_block_on_weights_in_the_package_runs_offline():
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save("photo.jpg")
    names = execute("docs/results/mixer_nano.md")
    assert len(names["guesses"]) == 3
    assert {"airplane", "truck"} <= set(names["classifier"].class_names)


def test_the_blocks_of_the_page_on_evaluation_run():
    names = execute(
        "docs/reference/evaluation.md", config=common.base(), common=common, optax=optax
    )
    assert set(names["config"].evals) == {"test", "val", "real", "v2", "few"}
    assert fields.check(names["config"].copy_and_resolve_references())
    evaluator = names["WeightNorm"].from_config(None, None, None, None, name="stem")
    assert evaluator.run({"stem": {"kernel": np.full(4, 2.0)}}) == {"norm": 4.0}


@pytest.mark.slow
def test_the_blocks_of_the_page_on_own_images_run(finished, capsys):
    shutil.copytree(finished.workdir, "runs/mine")
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save("photo.jpg")
    names = execute("docs/guides/own_images.md")
    assert 0 <= names["result"].accuracy <= 1 and len(names["classifier"].class_names) == 10
    assert re.fullmatch(r"(\d+\.\d% \d\n){2}", capsys.readouterr().out)


@slow
def test_the_block_for_colab_runs(short, capsys):
    names = execute("docs/guides/tpu.md")
    assert repr(names["run"]) == "Run('digits'), finished" and "Device" in capsys.readouterr().out


@slow
def test_the_block_of_the_page_on_weights_runs(cache):
    names = execute("docs/reference/weights.md", images=published_checkpoint.image_batch(1))
    assert names["logits"].shape == (1, 21_843)


def test_the_block_of_the_page_on_input_size_runs():
    save_small("Mixer-B_16.npz", patch_size=16, image_size=224)
    [block] = blocks("docs/reference/input_size.md")
    found = []
    for line in block.splitlines():
        exec(line, names := {"mlp_mixer": mlp_mixer})
        module = names["module"]
        found.append((module.image_size, module.patch_size, module.tokens_mlp_dim))
    assert found == [
        ((448, 448), (16, 16), 16),  # tiled: four times as wide
        ((160, 256), (16, 16), 4),
        ((448, 448), (16, 16), 4),
        ((224, 224), (8, 8), 4),
    ]


@slow
def test_the_block_of_the_page_on_export_runs():
    save_small("mine.npz", patch_size=4, image_size=8)
    mlp_mixer.export("mine.npz", "mine.zip")
    names = execute("docs/guides/export.md", images=np.zeros((2, 8, 8, 3), np.uint8))
    np.testing.assert_allclose(names["probabilities"].sum(-1), 1, rtol=1e-5)
    assert names["about"]["class_names"] == ["a", "b", "c"]


@slow
def test_the_blocks_of_the_notebook_page_run(tmp_path, capsys):
    assert len(blocks("docs/guides/notebook.md")) == 7
    names = execute("docs/guides/notebook.md")
    assert capsys.readouterr().out == ""  # nothing prints
    assert {path.name for path in tmp_path.iterdir()} == {
        "runs",
        "mine.npz",
        "mine.safetensors",
        "exported",
    }
    assert repr(names["run"]) == "Run('runs/digits'), finished"
    assert 0 <= names["result"].accuracy <= 1
    module, params, pixels = (names[name] for name in ("module", "params", "pixels"))
    wanted = module.apply({"params": params}, pixels)
    assert np.ptp(wanted) and np.array_equal(names["logits"], wanted)
    for shown in (names["result"], names["classifier"]):  # as the last line of a cell
        assert len(repr(shown)) < 600 and "array" not in repr(shown)
