"""Layouts of one step over meshes that one device cannot show; eight fake devices in a process."""

import pytest

from mlp_mixer.training import layouts

from ..conftest import python_with_devices

pytestmark = pytest.mark.slow

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np, optax
import mlp_mixer
from jax.sharding import Mesh
from mlp_mixer.models.init import init
from mlp_mixer.runtime import compiler_options
from mlp_mixer.runtime.mesh import AXES
from mlp_mixer.training import layouts
from mlp_mixer.training.mixup import Mixup
from mlp_mixer.training.sam import Sam
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.training.step import make_train_step

two_blocks = mlp_mixer.create(num_classes=5, image_size=8, patch_size=4, num_blocks=2,
                              hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=32, stoch_depth=0.5)
one_block = two_blocks.clone(num_blocks=1, dropout_rate=0.1)
tx = optax.sgd(0.1)
rng = np.random.default_rng(0)
batch = {"image": rng.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8),
         "label": rng.integers(0, 5, 16).astype(np.int32)}

def random(module):
    return jax.tree.map(lambda x: np.float32(rng.normal(0, 0.3, x.shape)),
                        jax.eval_shape(lambda: init(module)))

def run(layout, module, params, teachers=(), **more):
    step = make_train_step(module, tx, loss="softmax", mixup=Mixup(0.5), **more)
    state = TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
    state = jax.device_put(state, layout.shardings(state))
    teachers = [layout.place(each) for each in teachers]
    if isinstance(layout, layouts.Fsdp):
        for each in teachers:
            kernel = each["MixerBlock_0"]["channel_mixing"]["Dense_0"]["kernel"]
            assert {s.data.shape for s in kernel.addressable_shards} == {(16, 32 // 4)}
    run_step = layout.jit_step(step, state, *teachers)
    for _ in range(2):
        state, metrics = run_step(state, layout.to_devices(batch), *teachers)
        jax.block_until_ready(metrics)
    return state, metrics

def mesh(slices, each):
    return Mesh(np.array(jax.devices()[: slices * each]).reshape(slices, each), AXES)

plain = dict(module=two_blocks, params=random(two_blocks), accum_steps=2)
one, metrics = run(layouts.Replicated(mesh(1, 1)), **plain)
for kind in (layouts.Replicated, layouts.Fsdp):
    layout = kind(mesh(4, 2))
    state, same = run(layout, **plain)
    if kind is layouts.Fsdp:  # split within a slice, the same in every slice
        kernel = state.params["MixerBlock_0"]["channel_mixing"]["Dense_0"]["kernel"]
        assert {s.data.shape for s in kernel.addressable_shards} == {(16, 32 // 2)}
    params_ = jax.device_get(layout.to_everywhere(state.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), params_,
                 jax.device_get(one.params))
    assert float(same["accuracy"]) == float(metrics["accuracy"])
    np.testing.assert_allclose(float(same["loss"]), float(metrics["loss"]), rtol=1e-5)

# 4 groups of 4 rows: on one device, two on each of 2 devices, each on 2 of 8 devices in 2 slices.
# With a teacher, which is split as parameters are.
gsam = dict(module=one_block, params=random(one_block), teacher=one_block,
            teachers=[random(one_block)],
            sam=Sam(lambda step: 0.5 - 0.1 * step, alpha=0.5, group_size=4))
wanted, metrics = run(layouts.Replicated(mesh(1, 1)), accum_steps=8, **gsam)
for layout in (layouts.Replicated(mesh(1, 2)), layouts.Replicated(mesh(2, 4)),
               layouts.Fsdp(mesh(2, 4)), layouts.Pmap(mesh(1, 8))):
    state, same = run(layout, **gsam)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6),
                 jax.device_get(layout.to_everywhere(state.params)), jax.device_get(wanted.params))
    for name in ("loss", "accuracy", "surrogate_gap", "clean_grad_norm", "grad_norm", "rho"):
        np.testing.assert_allclose(float(same[name]), float(metrics[name]), rtol=1e-5, err_msg=name)
assert 0.01 < max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()),
                          jax.device_get(wanted.params), gsam["params"])))

rough, _ = run(layouts.Replicated(mesh(1, 8), jnp.bfloat16), **plain | {"accum_steps": 1})
differences = jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()),
                              jax.device_get(rough.params), jax.device_get(one.params)))
assert 1e-5 < max(differences) < 1e-2, max(differences)

# Stands in for a v5e: sums overlap between several devices whose compiler takes the options.
overlapped = [layouts.Replicated(mesh(1, 2)).overlaps_sums]
options = {"xla_cpu_enable_fast_math": False}
layouts.OVERLAPPED_SUMS = compiler_options.OVERLAPPED_SUMS = options
compiler_options.OPTIONS["cpu"] = options
overlapped += [kind(mesh(*sizes)).overlaps_sums for kind, *sizes in (
    (layouts.Replicated, 1, 2), (layouts.Fsdp, 2, 2), (layouts.Replicated, 1, 1),
    (layouts.Pmap, 1, 2))]
assert overlapped == [False, True, True, False, False], overlapped
print("all the same")
"""


def test_slices_and_layouts_agree_and_bfloat16_sums_nearly():
    assert python_with_devices(8, SCRIPT).strip() == "all the same"


def test_what_cannot_be_laid_out_is_refused():
    with pytest.raises(ValueError, match=r"unknown layout 'zero'.*replicated, fsdp, pmap"):
        layouts.make_layout("zero")
    with pytest.raises(ValueError, match=r"unknown sum_dtype 'int8'.*float32 or bfloat16"):
        layouts.make_layout(sum_dtype="int8")
    with pytest.raises(ValueError, match=r"batch_size=6.*1 devices.*accum_steps=4"):
        layouts.make_layout().check_batch_size(6, 4)
