"""Every layout of the published files gives the same module and the same numbers."""

import ml_dtypes
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.weights import convert, naming, pre_linen_names, safetensors


@pytest.mark.parametrize("prefix", ["params/", "opt/target/"])
@pytest.mark.parametrize("layout", ["linen", "pre-linen"])
def test_prefix_is_found_and_the_optimizer_left_alone(prefix, layout, flat, tmp_path, equal):
    arrays = {prefix + n: a for n, a in naming.to_layout(flat, layout).items()}
    np.savez(tmp_path / "x.npz", **arrays, **{"opt/state/step": np.int32(7)})
    equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)


# What wraps a model: DataParallel, torch.compile, Lightning, timm's and others' classes, Flax.
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "timm_model.", "backbone.",
                                    "state_dict.", "model._orig_mod.module.", "ema."])  # fmt: skip
def test_a_prefix_of_all_timm_names_is_stripped_and_logged(prefix, flat, tmp_path, equal, caplog):
    arrays = {prefix + n: a for n, a in naming.to_layout(flat, "timm").items()}
    beside = {"n_averaged": np.array(5), "optimizer.exp_avg.0": np.zeros(2, np.float32)}
    safetensors.write(tmp_path / "x.safetensors", arrays | beside)
    equal(mlp_mixer.load(tmp_path / "x.safetensors")[1], flat)
    assert f"its names begin with {prefix}, which is left out" in caplog.text
    convert.convert(tmp_path / "x.safetensors", tmp_path / "y.npz")
    equal(mlp_mixer.load(tmp_path / "y.npz")[1], flat)


@pytest.mark.parametrize("prefix", ["target/", "params/params/", "model/params/", "state/params/",
                                    "opt/target/params/"])  # fmt: skip
@pytest.mark.parametrize("layout", ["linen", "pre-linen"])
def test_a_prefix_of_all_published_names_is_stripped_and_logged(
    prefix, layout, flat, tmp_path, equal, caplog
):
    arrays = {prefix + n: a for n, a in naming.to_layout(flat, layout).items()}
    np.savez(tmp_path / "x.npz", **arrays, **{"opt_state/0/count": np.zeros(2, np.int32)})
    equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)
    assert f"its names begin with {prefix}, which is left out" in caplog.text


def test_of_weights_and_their_averages_the_weights_are_taken(flat, tmp_path, equal):
    averages = {f"ema/{name}": array + 1 for name, array in flat.items()}
    moments = {f"opt_state/0/mu/{name}": array + 2 for name, array in flat.items()}
    weights = {f"state/{name}": array for name, array in flat.items()}
    np.savez(tmp_path / "x.npz", **averages, **moments, **weights)
    equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)


def test_what_is_under_a_prefix_has_to_be_all_there_is(flat, tmp_path):
    weights = {f"model/{name}": array for name, array in flat.items()}
    np.savez(tmp_path / "x.npz", **weights, **{"other/kernel": np.zeros((2, 2), np.float32)})
    with pytest.raises(ValueError, match=r"a Mixer under model/, and beside it other/kernel"):
        mlp_mixer.load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", **weights, **{f"teacher/{n}": a for n, a in flat.items()})
    with pytest.raises(ValueError, match="several Mixers, under model/ and teacher/; keep one"):
        mlp_mixer.load(tmp_path / "x.npz")
    # Adam's moments have the names of the weights: they are no weights, even alone.
    np.savez(tmp_path / "x.npz", **{f"opt_state/0/mu/{n}": a for n, a in flat.items()})
    with pytest.raises(ValueError, match="looks like an optimizer's state"):
        mlp_mixer.load(tmp_path / "x.npz")


def test_pre_linen_children_are_renumbered_in_their_order(flat, tmp_path, equal):
    def gap(name):  # numbers as they were counted over all modules: 3 and 12 for 0 and 1, and so on
        name = name.replace("encoderblock_1/", "encoderblock_12/")
        name = name.replace("encoderblock_0/", "encoderblock_3/")
        name = name.replace("LayerNorm_1/", "LayerNorm_10/").replace("LayerNorm_0/", "LayerNorm_2/")
        return name.replace("channel_mixing_phase_0", "channel_mixing_phase_3")

    arrays = {gap(n): a for n, a in naming.to_layout(flat, "pre-linen").items()}
    np.savez(tmp_path / "x.npz", **arrays)
    equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)


def test_singleton_axes_may_be_anywhere(flat):
    for name, array in flat.items():
        if "_mixing/" in name:
            for axis in range(array.ndim + 1):
                spread = np.expand_dims(array, axis)
                np.testing.assert_array_equal(pre_linen_names.arrange(name, spread), array)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_other_float_dtypes_become_float32_exactly(dtype, flat, tmp_path, equal):
    arrays = {n: a.astype(dtype) for n, a in flat.items()}
    np.savez(tmp_path / "x.npz", **arrays)  # bfloat16 arrives as two bytes of no type
    equal(mlp_mixer.load(tmp_path / "x.npz")[1], {n: a.astype("f4") for n, a in arrays.items()})


def test_fortran_order_and_compression_change_nothing(flat, tmp_path, equal):
    np.savez_compressed(tmp_path / "x.npz", **{n: np.asfortranarray(a) for n, a in flat.items()})
    equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)
    np.savez(tmp_path / "y.npz", **{n: np.asfortranarray(a) for n, a in flat.items()})
    equal(mlp_mixer.load(tmp_path / "y.npz")[1], flat)


def test_saved_file_says_what_arrays_cannot(module, params, flat, tmp_path, equal):
    wide = module.clone(image_size=(2, 8), gelu="exact")  # as many tokens, not square
    mlp_mixer.save(tmp_path / "x.npz", wide, params)
    assert mlp_mixer.load(tmp_path / "x.npz")[0] == wide
    with np.load(tmp_path / "x.npz", allow_pickle=False) as numpy_reads:
        equal(mlp_mixer.load(tmp_path / "x.npz")[1], dict(numpy_reads))
        assert set(numpy_reads.files) == set(flat)
