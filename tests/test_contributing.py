"""What CONTRIBUTING.md says it takes to add something is all that it takes."""

import re

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from mlp_mixer.data import augment, digits, sources
from mlp_mixer.evaluation import evaluators
from mlp_mixer.models import architectures
from mlp_mixer.runs import trackers
from mlp_mixer.runtime.mesh import make_mesh
from mlp_mixer.training import fields, optimizer, ranges
from mlp_mixer.training.recipe import make_augment, make_recipe

from .conftest import ROOT, load_config


class Linear(nn.Module):
    num_classes: int
    image_size: tuple[int, int]
    image_channels: int = 3
    dtype: object = np.float32
    head_bias: float = 0.0
    scale: float = 1.0

    @nn.compact
    def __call__(self, images, *, train=False, rows=None, return_features=False):
        return nn.Dense(self.num_classes, name="head")(self.scale * images.mean((1, 2)))


def test_a_model(monkeypatch):
    linear = architectures.Architecture(Linear, Linear)
    monkeypatch.setitem(architectures.ARCHITECTURES, "linear", linear)
    monkeypatch.setitem(fields.MODEL, "scale", ranges.number(0))
    allowed = ranges.one_of(tuple(architectures.ARCHITECTURES))
    monkeypatch.setitem(fields.FIELDS, "architecture", allowed)  # read when fields is imported
    config = load_config("digits")
    config.architecture, config.model = "linear", {"scale": 2.0}
    config.remat = False
    recipe = make_recipe(fields.check(config), 10, 10_000)
    assert recipe.module.scale == 2.0 and recipe.state_shapes().params["head"]["bias"].shape == (
        10,
    )


def test_an_optimizer(monkeypatch):
    monkeypatch.setitem(optimizer.OPTIMIZERS, "sign", optax.scale_by_sign)
    config = load_config("digits")
    config.optimizer = "sign"
    monkeypatch.setitem(fields.FIELDS, "optimizer", ranges.one_of(optimizer.OPTIMIZERS))
    recipe = make_recipe(fields.check(config), 10, 10_000)
    params = {"head": {"bias": np.ones(2, np.float32)}}
    state = recipe.new_state(params)
    updates, _ = recipe.optimizer.update(
        jax.tree.map(lambda x: 5 * x, params), state.opt_state, params
    )
    assert abs(updates["head"]["bias"][0]) <= config.lr


class Constant:
    @classmethod
    def from_config(cls, config, module, mesh, class_names, *, value):
        made = cls()
        made.value = value
        return made

    def run(self, params):
        return {"constant": self.value}


def test_an_evaluator(monkeypatch):
    monkeypatch.setitem(evaluators.TYPES, "constant", Constant)
    config = load_config("digits")
    config.evals = {"mine": {"type": "constant", "value": 3.0}}
    made = evaluators.make(config, None, make_mesh(), ())
    assert evaluators.run(made, {}, step=1) == {"mine/constant": 3.0}


def test_a_data_set():
    source = digits.DigitsSource("digit", "train", 1)
    needed = {name for name in vars(sources.Source) if name.startswith(("__len", "__get"))}
    for name in (*needed, "labels", "digest", "name", "class_names"):
        assert hasattr(source, name), name
    with pytest.raises(ValueError, match="unknown data source 'mine:x'"):
        sources.open_source("mine:x", "train")


def start(workdir, config):
    """What a tracker's module has; this module is one for `test_a_tracker`."""
    return Notes(config["lr"])


class Notes:
    def __init__(self, lr):
        self.told = [lr]
        Notes.newest = self

    def scalars(self, step, values):
        self.told.append((step, *values))

    def close(self, done):
        self.told.append(done)


def test_a_tracker(monkeypatch, tmp_path):
    monkeypatch.setitem(trackers.TRACKERS, "pytest", __name__)  # a package that is installed
    config = load_config("digits")
    config.tracker = "pytest"
    monkeypatch.setitem(fields.FIELDS, "tracker", ranges.one_of(("", *trackers.TRACKERS)))
    assert trackers.is_usable(fields.check(config).tracker)
    with trackers.Tracking(config.tracker, tmp_path, config.to_dict()) as tracking:
        tracking.scalars(3, {"train/loss": 0.5})
    assert Notes.newest.told == [config.lr, (3, "train/loss"), True]


def test_an_augmentation():
    names = set(augment.Augment.__dataclass_fields__) - {"size"}
    assert names == set(fields.AUGMENT)
    config = load_config("digits")
    config.augment.flip = True
    assert make_augment(fields.check(config)).flip


def test_the_page_names_files_and_tables_that_there_are():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in (
        "models/architectures.py",
        "training/fields.py",
        "data/sources.py",
        "evaluation/evaluators.py",
        "training/optimizer.py",
        "data/augment.py",
        "runs/trackers.py",
    ):
        assert path in text and (ROOT / "mlp_mixer" / path).exists()
    for home, name in (
        (fields, "MODEL"),
        (architectures, "ARCHITECTURES"),
        (fields, "AUGMENT"),
        (evaluators, "TYPES"),
        (optimizer, "OPTIMIZERS"),
        (trackers, "TRACKERS"),
    ):
        assert f"`{name}`" in text and hasattr(home, name)


def test_names_of_tests_are_short():
    for path in (ROOT / "tests").rglob("*.py"):
        names = re.findall(r"def (test_\w+)", path.read_text())
        assert [name for name in names if len(name) > 60] == [], path
        assert len(set(names)) == len(names), path
