"""A small Mixer with random weights, and files of it."""

import numpy as np
import pytest
from flax import traverse_util

import mlp_mixer
from mlp_mixer.models.init import shapes


@pytest.fixture
def module():
    return mlp_mixer.create(
        num_classes=3,
        image_size=(4, 4),
        patch_size=2,
        num_blocks=2,
        hidden_dim=8,
        tokens_mlp_dim=6,
        channels_mlp_dim=10,
    )


@pytest.fixture
def flat(module):
    """Parameters by their published names; none is zero."""
    rng = np.random.default_rng(0)
    return {n: rng.standard_normal(s, np.float32) for n, s in shapes(module).items()}


@pytest.fixture
def params(flat):
    return traverse_util.unflatten_dict(flat, sep="/")


@pytest.fixture
def file(tmp_path, flat):
    """The weights as numpy itself writes them."""
    np.savez(tmp_path / "small.npz", **flat)
    return tmp_path / "small.npz"


@pytest.fixture(scope="session")
def equal():
    """Compares a parameter tree with arrays by name, to the bit."""

    def compare(tree, flat):
        have = traverse_util.flatten_dict(tree, sep="/")
        assert have.keys() == flat.keys()
        for name, array in flat.items():
            np.testing.assert_array_equal(have[name], array, err_msg=name)

    return compare
