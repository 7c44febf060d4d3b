"""convert and inspect: what is written is what was meant, and says where it came from."""

import hashlib
import zipfile

import ml_dtypes
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.weights import convert, files, load, naming
from mlp_mixer.weights.files import open_weights


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("layout", "end"), [("linen", "npz"), ("pre-linen", "npz"),
                                             ("timm", "safetensors")])  # fmt: skip
def test_every_layout_and_dtype_holds_the_same_numbers(
    layout, end, dtype, file, flat, tmp_path, equal
):
    target = tmp_path / f"x.{end}"
    convert.convert(file, target, layout=layout, dtype=dtype)
    stored = {n: a.astype(convert.DTYPES[dtype]) for n, a in flat.items()}
    equal(mlp_mixer.load(target)[1], {n: a.astype(np.float32) for n, a in stored.items()})
    with open_weights(target) as opened:
        assert {a.dtype.name for a in opened.arrays.values()} == {dtype}
        assert load.recognise(opened).layout == layout


def test_converting_there_and_back_is_bit_equal(file, flat, tmp_path, equal):
    convert.convert(file, tmp_path / "a.safetensors")
    convert.convert(tmp_path / "a.safetensors", tmp_path / "b.npz", layout="pre-linen")
    convert.convert(tmp_path / "b.npz", tmp_path / "c.npz")
    module, params = mlp_mixer.load(tmp_path / "c.npz")
    equal(params, flat)
    assert module.gelu == "tanh"  # timm's layout would be computed with the exact one by default


def test_a_folder_is_refused_before_anything_is_converted(file, tmp_path, monkeypatch):
    (tmp_path / "x.npz").mkdir()
    monkeypatch.setattr(convert, "open_weights", None)
    with pytest.raises(IsADirectoryError, match=r"x\.npz is a folder; give the name of a file"):
        convert.convert(file, tmp_path / "x.npz")


def test_numpy_reads_what_is_written_and_ignores_the_comment(file, flat, tmp_path):
    convert.convert(file, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == set(flat)
        for name in arrays.files:
            np.testing.assert_array_equal(arrays[name], flat[name])


def test_bfloat16_is_written_as_big_vision_reads_it(file, tmp_path, flat):
    convert.convert(file, tmp_path / "x.npz", dtype="bfloat16")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        array = arrays["stem/kernel"]
        assert array.dtype.type is np.void and array.itemsize == 2
        np.testing.assert_array_equal(
            array.view(ml_dtypes.bfloat16), flat["stem/kernel"].astype(ml_dtypes.bfloat16)
        )


def test_provenance_is_carried_from_file_to_file(file, tmp_path):
    convert.convert(file, tmp_path / "a.npz", dtype="float16", drop_head=True)
    convert.convert(tmp_path / "a.npz", tmp_path / "b.safetensors", image_size=8)
    with open_weights(tmp_path / "b.safetensors") as opened:
        first, second = opened.settings["history"]
    assert first["source"] == str(file)
    assert first["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert first["changes"] == ["dtype float32 -> float16", "head of 3 classes dropped"]
    assert second["sha256"] == hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    assert "image size 4x4 -> 8x8" in second["changes"]


def test_image_size_and_head_are_as_asked(file, tmp_path):
    convert.convert(file, tmp_path / "x.npz", image_size=(4, 8), drop_head=True)
    module, params = mlp_mixer.load(tmp_path / "x.npz")  # not square, but the file says it
    assert (module.image_size, module.num_classes) == ((4, 8), 0)
    assert "head" not in params


def test_table_has_one_row_for_all_blocks(file, tmp_path, run):
    out = run("convert", file, tmp_path / "x.safetensors", "--dtype", "float16")
    assert "2       MixerBlock_*/token_mixing/Dense_0/kernel float32 4x6" in out
    assert "blocks.*.mlp_tokens.fc1.weight float16 6x4" in out
    assert "layout linen -> timm; dtype float32 -> float16" in out
    assert "approximate='tanh'" in out


def test_unwritable_results_are_refused_and_leave_nothing(file, flat, tmp_path):
    np.savez(tmp_path / "large.npz", **flat | {"head/bias": np.full(3, 1e6, np.float32)})
    before = sorted(p.name for p in tmp_path.iterdir())
    for destination, fields, match in (
        ("x.npz", {"layout": "timm"}, "timm does not go into"),
        ("x.safetensors", {"layout": "linen"}, "linen does not go into"),
        ("x.pth", {}, "should end in .npz or .safetensors"),
        ("x.npz", {"dtype": "float64"}, "no dtype 'float64'; use float32, bfloat16 or float16"),
        ("x.npz", {"layout": "foo"}, "no layout 'foo'; use linen, pre-linen or timm"),
        ("large.npz", {}, "would overwrite its source"),
        ("x.npz", {"dtype": "float16"}, r"head/bias has numbers up to 1e\+06, which float16"),
    ):
        with pytest.raises(ValueError, match=match):
            convert.convert(tmp_path / "large.npz", tmp_path / destination, **fields)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_write_that_does_not_read_back_equal_is_an_error(file, tmp_path, monkeypatch):
    original = naming.to_layout

    def wrong(params, layout):
        return original(params | {"head/bias": params["head/bias"] + 1}, layout)

    monkeypatch.setattr(naming, "to_layout", wrong)
    with pytest.raises(ValueError, match="differs from what was written, in head/bias"):
        convert.convert(file, tmp_path / "x.npz")
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_inspect_describes_the_file_and_flags_nonfinite_values(flat, tmp_path, run):
    flat["head/bias"][0] = np.nan
    np.savez(tmp_path / "x.npz", **flat)
    text = run("inspect", tmp_path / "x.npz")
    for expected in (
        "none of the published ones",
        "4x4 pixels, 3 channels (taken to be square)",
        "2x2 pixels, 2x2 of them",
        f"{sum(a.size for a in flat.values()):,}",
        "npz, linen names, float32",
        "tanh (by default)",
        "NOT FINITE: 1 of 30 arrays: head/bias",
        hashlib.sha256((tmp_path / "x.npz").read_bytes()).hexdigest(),
    ):
        assert expected in text
    kernel = flat["stem/kernel"]
    row = next(line for line in text.splitlines() if line.startswith("stem/kernel"))
    assert row.split()[1:4] == ["2x2x3x8", f"{kernel.mean():.4g}", f"{kernel.std():.4g}"]


@pytest.mark.slow
def test_inspect_names_the_variant_and_the_origin(published, tmp_path, run):
    published.write(tmp_path / "s32.npz", "S/32")
    convert.convert(tmp_path / "s32.npz", tmp_path / "x.npz", dtype="bfloat16")
    text = run("inspect", tmp_path / "x.npz")
    for expected in ("Mixer-S/32", "19,104,624", "bfloat16", "s32.npz (sha256", "-> bfloat16"):
        assert expected in text


def test_comment_of_the_archive_is_json(file, tmp_path):
    convert.convert(file, tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.comment.startswith(b'{"mlp_mixer": {"image_size": [4, 4], "gelu": "tanh"')


def test_pickles_and_pipes_are_no_sources(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"anything")
    with pytest.raises(ValueError, match="weights_only=True"):
        files.open_file(tmp_path / "x.pth")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        mlp_mixer.load("/dev/zero")
