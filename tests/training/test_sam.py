"""SAM and GSAM: limits in which they are plain training, and what a config may say of them.

The whole update is compared with an independent one in test_independent_step.
"""

import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mlp_mixer
from mlp_mixer.models.init import init
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.training import layouts
from mlp_mixer.training.recipe import make_recipe
from mlp_mixer.training.sam import Sam, make_sam
from mlp_mixer.training.step import make_train_step

from ..conftest import load_config, nowhere_zero

ROWS = 16


def make_module(**sizes):
    widths = dict(num_blocks=2, hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=32)
    return mlp_mixer.create(num_classes=5, image_size=8, patch_size=4, **widths | sizes)


def compile_step(module, **arguments):
    """A compiled step, a state with parameters that are zero nowhere, and a batch."""
    rng = np.random.default_rng(0)
    tx, layout = optax.adam(0.01), layouts.make_layout(devices=jax.devices()[:1])
    params = nowhere_zero(module, rng)
    state = TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
    batch = {
        "image": rng.integers(0, 256, (ROWS, 8, 8, 3), dtype=np.uint8),
        "label": rng.integers(0, 5, ROWS).astype(np.int32),
    }
    step = make_train_step(module, tx, loss="softmax", grad_clip=1.0, **arguments)
    state, batch = jax.device_put(state, layout.shardings(state)), layout.to_devices(batch)
    return layout.compile_step(step, state, batch), state, batch


def take_steps(module, **arguments):
    """The parameters after two steps, and the metrics of each."""
    step, state, batch = compile_step(module, **arguments)
    state, first = step(state, batch)
    state, second = step(state, batch)
    return jax.device_get((state.params, first, second))


@pytest.mark.slow
def test_rho_zero_is_plain_training_to_the_bit():
    """Where the groups are the parts of accumulation, so that sums have the same order."""
    module = make_module(dropout_rate=0.3, stoch_depth=0.5)
    plain, *_ = take_steps(module, accum_steps=4)
    zero, _, metrics = take_steps(module, sam=Sam(lambda step: 0.0 * step, group_size=4))
    jax.tree.map(np.testing.assert_array_equal, zero, plain)
    assert metrics["surrogate_gap"] == 0


@pytest.mark.slow
def test_both_passes_have_the_same_dropout_and_depth():
    """Else the loss would differ between them, even at the same weights."""
    module = make_module(dropout_rate=0.5, stoch_depth=0.9)
    sam = Sam(lambda step: 0.01 * step, alpha=1.0, group_size=8)
    _, same, perturbed = take_steps(module, sam=sam)
    assert same["surrogate_gap"] == 0 and same["clean_grad_norm"] > 0
    assert 0 < perturbed["surrogate_gap"] < 0.1  # about rho |g|


@pytest.mark.slow
def test_the_surrogate_gap_is_rho_times_the_gradient_norm():
    """To first order, by the definition of the perturbation."""
    module = make_module(num_blocks=1)
    _, _, metrics = take_steps(module, sam=Sam(lambda step: 1e-3, group_size=ROWS))
    first_order = 1e-3 * metrics["clean_grad_norm"]
    assert metrics["surrogate_gap"] == pytest.approx(first_order, rel=0.05)


@pytest.mark.slow
def test_perturbed_weights_exist_once_not_for_each_group():
    # Its parameters are far larger than its activations.
    module = make_module(num_blocks=1, channels_mlp_dim=4096)
    size = sum(
        4 * math.prod(x.shape) for x in jax.tree.leaves(jax.eval_shape(lambda: init(module)))
    )

    def temporary(group_size: int) -> int:
        sam = Sam(lambda step: 0.1, 0.5, group_size)
        step, _, _ = compile_step(module, sam=sam)
        return step.memory_analysis().temp_size_in_bytes

    assert temporary(1) < temporary(ROWS) + 2 * size  # 16 groups and one; the sum over groups


def config_with(**fields):
    config = load_config("digits")
    config.update(total_steps=100, total_epochs=0.0, warmup_steps=10, lr=0.02, decay="linear")
    config.update(decay_end=0.1, batch_size=128, **fields)
    return config


def make(config):
    return make_recipe(config, 10, 1437).step and make_sam(
        config, lambda step: jnp.interp(step, jnp.array([0, 10, 100]), jnp.array([0, 0.02, 0.002]))
    )


def test_rho_follows_the_learning_rate_even_below_its_end():
    sam = make(config_with(sam=dict(rho_max=0.5, rho_min=0.1)))
    # Halfway through the decay the rate is 0.011, the mean of its peak and end; at step 0 it is 0.
    for step, rho in ((10, 0.5), (55, 0.3), (100, 0.1), (1, 0.1), (0, 0.1 - 0.4 / 9)):
        assert float(sam.rho(step)) == pytest.approx(rho, abs=1e-6)


def test_rho_is_rho_max_where_the_learning_rate_does_not_decay():
    config = config_with(sam=dict(rho_max=0.5, rho_min=0.1))
    config.decay_end = 1.0
    assert [float(make(config).rho(step)) for step in (0, 50)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("sam", "message"),
    [
        (dict(alpha=0.1), r"rho_max=0\.0.*alpha=0\.1 perturb nothing: set sam\.rho_max"),
        (dict(rho_min=0.1), r"rho_min=0\.1.*perturb nothing"),
        (dict(rho_max=0.1, rho_min=0.2), r"rho_min must not be over sam\.rho_max"),
        (dict(rho_max=0.1, group_size=48), r"group_size=48 does not divide batch_size=128"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(sam, message):
    with pytest.raises(ValueError, match=message):
        make(config_with(sam=sam))


def test_groups_that_straddle_devices_are_refused():
    sam = Sam(lambda step: 0.1, group_size=8)
    assert [sam.split(rows, 48 // rows) for rows in (48, 24, 8, 4, 2)] == [
        (6, 1), (3, 1), (1, 1), (1, 2), (1, 4),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"group_size=8 neither divides the 12 images.* 4 devices"):
        sam.split(12, 4)


@pytest.mark.parametrize("weights", [(3.0, 4.0), (0.0, 0.0)])
def test_gsam_is_defined_where_a_gradient_is_zero(weights):
    """For f(w) = |w|^2 / 2, whose gradient is w, and perturbed weights of zero."""
    sam = Sam(lambda step: -5.0, alpha=0.5, group_size=4)

    def one_pass(w, rows):
        n = len(rows["row"])
        return n * w, {"loss": n * (w**2).sum() / 2}

    def gradients(rows):
        return sam.gradients(one_pass, jnp.array(weights), rows, jnp.int32(0), "d")

    grads, sums = jax.vmap(gradients, axis_name="d")({"row": jnp.arange(8).reshape(1, 8)})
    np.testing.assert_allclose(grads[0], [-0.5 * 8 * w for w in weights])  # -alpha g
    assert sums["clean_grad_norm"] == 8 * np.hypot(*weights)


@pytest.mark.slow
def test_a_run_of_gsam_logs_its_measures_and_resumes_exactly(tiny_config, tmp_path):
    tiny_config.sam.update(rho_max=0.1, rho_min=0.05, alpha=0.3, group_size=8)
    tiny_config.log_every_steps = 1
    run = mlp_mixer.train(tiny_config, tmp_path)
    before, lines = run.params(), run.metrics
    first = next(line for line in lines if line["step"] == 1)
    assert first["train/loss"] == pytest.approx(np.log(10), abs=1e-4)  # the clean one: no head yet
    assert first["train/surrogate_gap"] != 0 and first["train/clean_grad_norm"] > 0
    assert first["train/rho"] == pytest.approx(0.05)  # the rate is 0, and so is its end
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    (tmp_path / "model.npz").unlink()
    again = mlp_mixer.train(tiny_config, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again.params(), before)
    assert [line["train/loss"] for line in again.metrics if "train/rho" in line] == [
        line["train/loss"] for line in lines if "train/rho" in line
    ]
