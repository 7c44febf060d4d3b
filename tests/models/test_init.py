"""Fresh parameters: Flax's distribution, whatever else the model has and wherever they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.models.init import init, shapes

from ..conftest import python_with_devices

MODEL = dict(num_classes=5, image_size=16, patch_size=4, num_blocks=2, hidden_dim=96,
             tokens_mlp_dim=80, channels_mlp_dim=128, head_bias=-2.0)  # fmt: skip


def by_name(params):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


@pytest.mark.slow
def test_every_leaf_has_the_shape_and_distribution_of_flax():
    module = mlp_mixer.create(**MODEL)
    ours = by_name(init(module))
    flax = by_name(jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"])
    assert {name: x.shape for name, x in ours.items()} == shapes(module)
    assert shapes(module) == {name: x.shape for name, x in flax.items()}
    for name, theirs in flax.items():
        assert ours[name].dtype == np.float32
        if name.endswith("kernel") and name != "head/kernel":
            levels = np.linspace(0, 1, 9)
            scale = 1 / np.sqrt(np.prod(theirs.shape[:-1]))  # the variance is one over the fan-in
            difference = np.quantile(ours[name], levels) - np.quantile(theirs, levels)
            assert np.abs(difference).max() < 0.15 * scale, name
            np.testing.assert_allclose(ours[name].std(), scale, rtol=0.05)
        else:
            np.testing.assert_array_equal(ours[name], theirs)


def test_a_leaf_depends_on_the_seed_and_its_name_only():
    few = by_name(init(mlp_mixer.create(**MODEL)))
    many = by_name(init(mlp_mixer.create(**MODEL | dict(num_blocks=3, num_classes=0))))
    for name in few.keys() & many.keys():
        np.testing.assert_array_equal(few[name], many[name])
    kernels = [name for name in many if name.endswith("Dense_0/kernel")]
    other = by_name(init(mlp_mixer.create(**MODEL), seed=1))
    assert len({float(many[name].flat[0]) for name in kernels}) == len(kernels) == 6
    assert np.abs(few["stem/kernel"] - other["stem/kernel"]).max() > 0.1


def test_parameters_made_on_eight_devices_are_those_of_one():
    printed = python_with_devices(
        8,
        f"""
        import jax, numpy as np, mlp_mixer
        from mlp_mixer.models.init import init
        from mlp_mixer.training import layouts
        module = mlp_mixer.create(**{MODEL!r})
        one = init(module)
        split = init(module, shardings=layouts.make_layout("fsdp").shardings(one))
        kernel = split["MixerBlock_1"]["channel_mixing"]["Dense_0"]["kernel"]
        assert kernel.addressable_shards[0].data.shape == (96, 16)
        jax.tree.map(np.testing.assert_array_equal, one, split)
        print("same")
        """,
    )
    assert printed.strip() == "same"


@pytest.mark.parametrize("name", ["stem/kernel", "MixerBlock_1/token_mixing/Dense_1/kernel"])
def test_no_number_is_drawn_twice_within_a_kernel(name):
    kernel = by_name(init(mlp_mixer.create(**MODEL)))[name]
    assert len(np.unique(kernel)) > 0.998 * kernel.size  # of 2^23 that there are
