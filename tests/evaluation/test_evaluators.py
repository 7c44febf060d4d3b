"""Evaluators as a config names them."""

import jax
import ml_collections
import numpy as np
import pytest
from PIL import Image

import mlp_mixer
from configs import common
from mlp_mixer.data import crews, images, workers
from mlp_mixer.evaluation import evaluators
from mlp_mixer.runs import metrics
from mlp_mixer.runtime.mesh import make_mesh
from mlp_mixer.training import loop

from ..conftest import nowhere_zero


@pytest.fixture(scope="module")
def model():
    module = mlp_mixer.create(
        num_classes=3, image_size=(8, 12), patch_size=4, num_blocks=1, hidden_dim=8,
        tokens_mlp_dim=4, channels_mlp_dim=8,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    return module, nowhere_zero(module, rng, 0.5)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Images of many shapes in three classes, one of them broken."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for i in range(12):
        folder = root / ("train" if i < 6 else "test") / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (9 + 3 * i, 40 - 2 * i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (root / "test" / "a" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture
def config(photographs):
    config = common.base()
    config.data.source, config.data.skip_broken = f"folder:{photographs}", True
    config.image_size, config.batch_size = (8, 12), 4
    return config


def run(config, model, class_names="abc", **of_run):
    module, params = model
    made = evaluators.make(config, module, make_mesh(), class_names)
    return evaluators.run(made, params, 1, **of_run)


def test_outputs_keep_the_runs_classes_in_any_order_of_images(config, model):
    module, params = model
    config.evals.test = common.classification("test")
    turned = params | {"head": {name: x[..., [2, 0, 1]] for name, x in params["head"].items()}}
    assert run(config, (module, turned), "cab") == pytest.approx(run(config, model))
    with pytest.raises(ValueError, match=r"config\.evals\.test: .*'b'.*the run.*'x'"):
        run(config, model, "axc")


def test_worker_processes_of_the_run_give_the_same_bits(config, model, monkeypatch):
    config.evals.test = common.classification("test")
    config.evals.few = dict(type="fewshot", train_split="train", split="train", shots=(1, 2))
    result = run(config, model)
    config.data.workers = 1
    monkeypatch.setattr(workers, "Threads", None)
    with crews.keep_processes(1):
        assert run(config, model) == result and result["test/examples"] == 6


@pytest.mark.slow
def test_an_evaluator_has_its_own_crop_and_skips_broken_images(config, model, photographs):
    config.eval_crop, config.eval_crop_fraction = "resmall", 0.875
    config.evals.square = common.classification("test")
    config.evals.square.crop, config.evals.square.crop_fraction = "resize", 0.5
    result = run(config, model)
    module, params = model
    for name, view in {"test": ("resmall", 0.875), "square": ("resize", 0.5)}.items():
        losses = []
        for path in sorted(photographs.glob("test/?/[0-9]*.png")):
            image = images.eval_view(np.asarray(Image.open(path)), (8, 12), *view)
            logits = module.apply({"params": params}, image[None] / np.float32(127.5) - 1)[0]
            losses.append(-jax.nn.log_softmax(logits)["abc".index(path.parent.name)])
        assert result[f"{name}/examples"] == len(losses) == 6
        assert result[f"{name}/loss"] == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert result["test/loss"] != pytest.approx(result["square/loss"], rel=1e-3)


def test_the_loss_is_the_one_that_the_run_trains_with(config, model, photographs):
    module, params = model
    config.loss, config.evals.test = "sigmoid", common.classification("test")
    losses = []
    for path in sorted(photographs.glob("test/?/[0-9]*.png")):
        image = images.eval_view(np.asarray(Image.open(path)), (8, 12))
        logits = module.apply({"params": params}, image[None] / np.float32(127.5) - 1)[0]
        p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
        p[np.arange(3) != "abc".index(path.parent.name)] -= 1  # of not being the other classes
        losses.append(-np.log(np.abs(p)).sum())
    assert run(config, model)["test/loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_failing_evaluator_says_which_it_is_and_when(config, model):
    config.data.skip_broken = False
    with pytest.raises(ValueError, match=r"evaluator 'test' failed at step 1: .*broken\.png"):
        run(config, model)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(type="guess"), r"unknown type 'guess'; use one of classification, fewshot"),
        (dict(crap="resize"), r"'crap'; type classification needs split and may have source, crop"),
        (dict(crop="zoom"), r"unknown evaluation crop 'zoom'; use resmall or resize"),
        (dict(source="digits"), r"digits, with 10 classes, has '0'.*with 3 classes, has 'a'"),
        (dict(type="fewshot"), r"'train_split'.*needs train_split, split and may have source"),
    ],
)
def test_an_impossible_evaluator_is_named_before_training(config, model, fields, words):
    config.evals.test = ml_collections.ConfigDict(
        dict(type="classification", split="test") | fields
    )
    with pytest.raises(ValueError, match=rf"config\.evals\.test: .*{words}"):
        run(config, model)


@pytest.mark.slow
def test_only_at_end_waits_for_the_last_step(tiny_config, tmp_path):
    tiny_config.evals.dev = common.classification("train[80%:]")
    tiny_config.evals.test.only_at_end = True
    loop.train(tiny_config, tmp_path)
    steps = {
        name: [x["step"] for x in metrics.read(tmp_path) if f"{name}/accuracy" in x]
        for name in ("dev", "test")
    }
    assert steps == {"dev": [3, 6], "test": [6]}


def test_a_bug_in_an_evaluator_keeps_its_own_error():
    class Buggy:
        def run(self, params):
            return {}["missing"]

    with pytest.raises(KeyError):
        evaluators.run({"mine": evaluators.Scheduled(Buggy(), False)}, {}, step=1)
