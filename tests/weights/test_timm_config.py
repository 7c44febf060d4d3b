"""config.json as timm 1.0.31 reads it; in benchmarks/timm_hub.py timm itself does."""

import mlp_mixer
from mlp_mixer.models.mixer import VARIANTS
from mlp_mixer.weights import timm_config

HALF = [0.5, 0.5, 0.5]


def test_a_released_variant_is_timms_architecture_as_it_is():
    module = mlp_mixer.create("B/16", num_classes=2)
    said = {"class_names": ["a", "b"], "crop": "resize", "crop_fraction": 0.9}
    # Written by hand, after what timm's save_config_for_hf gives for its mixer_b16_224.
    assert timm_config.make(module, said) == {
        "architecture": "mixer_b16_224",
        "num_classes": 2,
        "num_features": 768,
        "global_pool": "avg",
        "label_names": ["a", "b"],
        "pretrained_cfg": {
            "custom_load": False, "input_size": [3, 224, 224], "fixed_input_size": True,
            "interpolation": "bilinear", "crop_pct": 0.9, "crop_mode": "squash", "mean": HALF,
            "std": HALF, "num_classes": 2, "pool_size": None, "first_conv": "stem.proj",
            "classifier": "head",
        },
    }  # fmt: skip


def test_timm_has_the_variants_with_patches_of_16_and_32_up_to_l():
    found = {
        variant: timm_config.architecture_of(mlp_mixer.create(variant)) for variant in VARIANTS
    }
    assert found == {
        "S/32": "mixer_s32_224", "S/16": "mixer_s16_224", "S/8": None, "B/32": "mixer_b32_224",
        "B/16": "mixer_b16_224", "L/32": "mixer_l32_224", "L/16": "mixer_l16_224", "H/14": None,
    }  # fmt: skip
    assert not timm_config.architecture_of(mlp_mixer.create("B/16", num_blocks=11))
    assert not timm_config.architecture_of(mlp_mixer.create("B/16", hidden_dim=760))
    assert not timm_config.architecture_of(mlp_mixer.create("B/16", patch_size=(16, 32)))


def test_widths_are_those_that_timm_computes_from_its_ratios():
    for hidden_dim in (7, 30, 512, 768):
        for width in range(1, 2 * hidden_dim):
            assert int(timm_config._ratio(width, hidden_dim) * hidden_dim) == width
    tiled = mlp_mixer.create("B/16", image_size=448, tokens_mlp_dim=1536)
    found = timm_config.make(tiled, {})
    assert found["model_args"] == {"mlp_ratio": [2.0, 4.0]}  # patch_size would be given twice
    assert found["pretrained_cfg"]["input_size"] == [3, 448, 448]


def test_a_mixer_that_timm_has_no_name_for_has_all_arguments():
    module = mlp_mixer.create("S/8", image_channels=1, num_classes=0, image_size=(32, 64))
    found = timm_config.make(module, {})
    assert found["architecture"] == "mlp_mixer" and found["num_classes"] == 0
    assert "label_names" not in found
    assert found["model_args"] == {
        "img_size": [32, 64], "in_chans": 1, "patch_size": [8, 8], "num_blocks": 8,
        "embed_dim": 512, "mlp_ratio": [0.5, 4.0],
    }  # fmt: skip
    assert found["pretrained_cfg"]["mean"] == found["pretrained_cfg"]["std"] == [0.5]
    assert found["pretrained_cfg"]["crop_pct"] == 0.875
