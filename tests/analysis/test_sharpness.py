"""The largest eigenvalues of a loss's Hessian, beside those of the Hessian itself."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import mlp_mixer
from mlp_mixer.analysis import sharpness
from mlp_mixer.data.sources import open_source
from mlp_mixer.models import mixer


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny Mixer for digits that is far from zero everywhere: its file, module and parameters."""
    module = mixer.create(
        num_classes=10, image_size=8, image_channels=1, patch_size=4, num_blocks=1, hidden_dim=6,
        tokens_mlp_dim=3, channels_mlp_dim=5,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = mlp_mixer.init(module)
    params = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype("f4"), params)
    path = tmp_path_factory.mktemp("sharpness") / "tiny.npz"
    names = open_source("digits", "train").class_names
    mlp_mixer.save(path, module, params, class_names=names, crop="resmall", crop_fraction=1.0)
    return path, module, params


def dense_hessian(module, params, images, labels):
    """Reverse over reverse, of the loss written out."""
    flat, unravel = ravel_pytree(params)

    def loss(flat):
        logits = module.apply({"params": unravel(flat)}, images / 127.5 - 1)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    hessian = jax.jit(jax.jacrev(jax.jacrev(loss)))(flat)
    return float(loss(flat)), jax.grad(loss)(flat), np.asarray(hessian, np.float64)


@pytest.mark.slow
def test_eigenvalues_are_those_of_the_dense_hessian(weights):
    path, module, params = weights
    source = open_source("digits", "train", channels=1)
    chosen = np.random.RandomState(3).permutation(len(source))[:50]
    examples = [source[int(i)] for i in chosen]
    loss, gradient, hessian = dense_hessian(
        module, params, jnp.stack([jnp.asarray(x, jnp.float32) for x, _ in examples]),
        jnp.array([label for _, label in examples]),
    )  # fmt: skip
    # 50 images in batches of 16: the last one is padded.
    found = mlp_mixer.sharpness(
        path, "digits", examples=50, top=3, batch_size=16, seed=3, tolerance=1e-5
    )
    wanted = np.linalg.eigvalsh(hessian)[::-1]
    assert wanted[0] > 2 * abs(wanted[3])  # the three stand out
    np.testing.assert_allclose(found.eigenvalues, wanted[:3], rtol=1e-3)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.gradient_norm == pytest.approx(float(jnp.linalg.norm(gradient)), rel=1e-4)
    assert found.examples == 50 and found.products < len(hessian)


def test_the_largest_eigenvalue_is_the_most_positive_one():
    matrix = np.diag(np.float32([-9, 1, 2, 5, 3]))
    found, _ = sharpness.largest_eigenvalues(lambda v: matrix @ v, 5, 2, 1e-6, seed=0)
    assert found == pytest.approx((5, 3), rel=1e-5)


@pytest.mark.slow
def test_the_command_measures_a_run_on_its_training_data(finished, run):
    words = run("sharpness", "--checkpoint", finished.workdir, "--examples", 40)
    assert "40 images" in words and "largest eigenvalues" in words
    told = json.loads(
        run("sharpness", "--checkpoint", finished.workdir, "--examples", 40, "--top", 2, "--json")
    )
    largest = float(words.split("Hessian: ")[1].split()[0])
    assert told["eigenvalues"][0] == pytest.approx(largest, rel=0.01)
    assert len(told["eigenvalues"]) == 2


@pytest.mark.slow
def test_a_run_on_few_images_is_measured_on_these(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["examples_per_class"] = 3
    (workdir / "config.json").write_text(json.dumps(config))
    assert mlp_mixer.sharpness(workdir, tolerance=0.1).examples == 3 * 10
    assert mlp_mixer.sharpness(workdir, split="test", examples=40, tolerance=0.1).examples == 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(), r"give a source \(--source\)"),
        (dict(source="digits", examples=0), r"examples=0 must be at least 1"),
        (dict(source="digits", tolerance=0.0), r"tolerance=0.0 must be over 0"),
        (dict(source="digits", top=10**6), r"top=1000000 must be less than .* parameters"),
    ],
)
def test_what_cannot_be_measured_is_refused(weights, arguments, message):
    with pytest.raises(ValueError, match=message):
        mlp_mixer.sharpness(weights[0], **{"examples": 16} | arguments)
