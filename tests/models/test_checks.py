"""What `create` and `load` refuse of what they are given, and which kinds of sizes they take."""

import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.models import bit, mixer, vit
from mlp_mixer.models.checks import as_pair
from mlp_mixer.models.init import init

WIDTHS = dict(patch_size=4, num_blocks=2, hidden_dim=4, image_size=8)
MAKERS = {
    "Mixer": lambda **f: mixer.create(**WIDTHS | dict(tokens_mlp_dim=2, channels_mlp_dim=2) | f),
    "ViT": lambda **f: vit.create(**WIDTHS | dict(mlp_dim=2, num_heads=2) | f),
    "BiT": lambda **f: bit.create(**dict(stages=(1,), width=4, groups=2, image_size=8) | f),
}
WRONG = [
    ("Mixer", "dropout_rate", -0.1), ("Mixer", "dropout_rate", 1.0), ("Mixer", "dropout_rate", "0"),
    ("Mixer", "stoch_depth", 1.5), ("Mixer", "stoch_depth", float("nan")),
    ("Mixer", "num_blocks", 0), ("Mixer", "hidden_dim", 4.0), ("Mixer", "num_classes", -1),
    ("Mixer", "channels_mlp_dim", True), ("Mixer", "image_channels", 0),
    ("Mixer", "head_bias", float("inf")), ("Mixer", "dtype", int), ("Mixer", "remat", 1),
    ("Mixer", "image_size", "8"), ("Mixer", "image_size", "16"), ("Mixer", "image_size", (8, 8, 3)),
    ("Mixer", "image_size", 8.0), ("Mixer", "image_size", True), ("Mixer", "patch_size", 0),
    ("Mixer", "patch_size", (4,)), ("Mixer", "patch_size", -4),
    ("ViT", "num_heads", 0), ("ViT", "dropout_rate", 2), ("ViT", "image_size", "88"),
    ("BiT", "stages", ()), ("BiT", "stages", (1, 0)), ("BiT", "width", -4),
]  # fmt: skip


@pytest.mark.parametrize(("model", "field", "value"), WRONG)
def test_create_names_the_field_that_cannot_have_its_value(model, field, value):
    with pytest.raises(ValueError, match=rf"^{field} must be .*got"):
        MAKERS[model](**{field: value})


def test_the_ends_of_a_range_belong_to_it():
    module = MAKERS["Mixer"](stoch_depth=1.0, dropout_rate=0, num_classes=0)
    assert (module.stoch_depth, module.dropout_rate, module.num_classes) == (1.0, 0, 0)


@pytest.mark.parametrize(
    "size", [8, np.int64(8), (8, 8), [8, 8], np.array([8, 8]), (np.int32(8), np.int64(8))]
)
def test_a_size_is_one_number_or_two_of_python_or_numpy(size):
    assert as_pair(size) == (8, 8)
    for make in MAKERS.values():
        assert make(image_size=size) == make(image_size=(8, 8))  # hashes alike: one program


def test_numbers_of_numpy_become_pythons():
    assert MAKERS["Mixer"](num_blocks=np.int64(2), stoch_depth=np.float32(0.5)) == MAKERS["Mixer"](
        stoch_depth=0.5
    )


@pytest.mark.parametrize(
    ("argument", "value"),
    [("image_size", "16"), ("patch_size", 2.5), ("num_classes", -1), ("num_classes", "10")],
)
def test_load_refuses_what_create_does(tmp_path, argument, value):
    module = MAKERS["Mixer"](num_classes=2)
    mlp_mixer.save(tmp_path / "a.npz", module, init(module))
    with pytest.raises(ValueError, match=rf"^{argument} must be"):
        mlp_mixer.load(tmp_path / "a.npz", **{argument: value})
