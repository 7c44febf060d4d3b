"""Weights say how they are used, in every format, wherever they are copied."""

import json
import logging
import struct
import threading
import zipfile

import jax
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.inference.classifier import load_classifier
from mlp_mixer.models.init import shapes
from mlp_mixer.models.known_classes import imagenet, imagenet21k
from mlp_mixer.weights import (
    convert,
    describe,
    files,
    load,
    naming,
    npz,
    safetensors,
    timm_config,
)

NAMES = ("grün", "a b", "c,d")
SAID = dict(class_names=NAMES, crop="resize", crop_fraction=0.75, loss="sigmoid")


def test_class_names_crop_and_loss_travel_through_all_formats(module, params, flat, tmp_path):
    mlp_mixer.save(tmp_path / "a.npz", module, params, **SAID)
    convert.convert(tmp_path / "a.npz", tmp_path / "b.safetensors", dtype="bfloat16")
    convert.convert(tmp_path / "b.safetensors", tmp_path / "c.npz", layout="pre-linen")
    convert.convert(tmp_path / "c.npz", tmp_path / "d.npz", image_size=8)
    for name in ("a.npz", "b.safetensors", "c.npz", "d.npz"):
        assert load.read(tmp_path / name).settings == SAID
        classifier = load_classifier(tmp_path / name)
        found = {key: getattr(classifier, key) for key in SAID}
        assert found == SAID and classifier.output_names == NAMES
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == set(flat)


def test_a_new_head_has_no_names_and_the_rest_stays(module, params, tmp_path):
    mlp_mixer.save(tmp_path / "a.npz", module, params, **SAID)
    rest = {key: value for key, value in SAID.items() if key != "class_names"}
    assert load.read(tmp_path / "a.npz", num_classes=5).settings == rest
    assert load.read(tmp_path / "a.npz", num_classes=0).settings == rest
    convert.convert(tmp_path / "a.npz", tmp_path / "b.npz", drop_head=True)
    assert load.read(tmp_path / "b.npz").settings == rest
    mlp_mixer.save(tmp_path / "c.npz", module, params)
    nothing = load_classifier(tmp_path / "c.npz")
    assert nothing.class_names is None
    assert nothing.output_names == ("class 0", "class 1", "class 2")
    assert (nothing.crop, nothing.crop_fraction, nothing.loss) == ("resmall", 0.875, "softmax")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A file with the 21,843 names of ImageNet-21k, which are six comments long."""
    module = mlp_mixer.create(
        num_classes=21_843, image_size=4, patch_size=2, num_blocks=1, hidden_dim=2,
        tokens_mlp_dim=2, channels_mlp_dim=2,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    flat = {n: rng.standard_normal(s, np.float32) for n, s in shapes(module).items()}
    path = tmp_path_factory.mktemp("many") / "x.npz"
    npz.write(path, flat, {"class_names": list(imagenet21k().names), "gelu": "exact"})
    return path, flat


def test_names_too_long_for_one_comment_continue_in_the_members(many, tmp_path):
    path, flat = many
    module, _, settings = load.read(path)
    assert settings["class_names"] == imagenet21k().names and module.gelu == "exact"
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays.files) == set(flat)
        np.testing.assert_array_equal(arrays["head/bias"], flat["head/bias"])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and len(archive.comment) == 65_535
    convert.convert(path, tmp_path / "y.safetensors")
    convert.convert(tmp_path / "y.safetensors", tmp_path / "z.npz")
    assert load.read(tmp_path / "z.npz").settings == settings


def test_damage_in_any_comment_is_noticed(many, tmp_path):
    content = bytearray(many[0].read_bytes())
    for word in (b"rocking chair", b"zebra", b"gelu"):
        damaged = content.replace(word, word[:-1] + b"?")
        assert damaged != content
        (tmp_path / "x.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="metadata does not fit its checksum"):
            mlp_mixer.load(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors"])
def test_damage_at_either_end_of_the_metadata_is_noticed(name, file, tmp_path):
    convert.convert(file, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for word, other in ((b'{"mlp_mixer": {', b'{"mlp_miyer": {'), (b'"crc32": ', b'"crc3?": ')):
        if name == "x.safetensors":  # where it is a text in a JSON table
            word, other = (text.replace(b'"', b'\\"') for text in (word, other))  # noqa: PLW2901
        damaged = other.join(content.rsplit(word, 1))
        assert damaged != content
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match="metadata does not fit its checksum"):
            mlp_mixer.load(tmp_path / name)


def test_too_much_for_all_comments_is_refused_before_writing(flat, tmp_path):
    with pytest.raises(ValueError, match="bytes of metadata are more than fit"):
        npz.write(tmp_path / "x.npz", flat, {"class_names": ["x" * 3_000_000]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"class_names": ["a", "b"]}, "names 2 classes, but its head has 3"),
        ({"class_names": [1, 2, 3]}, "names no classes"),
        ({"crop": 7}, "its crop is 7"),
        ({"loss": None}, "its loss is None"),
        ({"pixel_range": 1}, "its pixel_range is 1"),
        ({"pixel_range": [[0, 0], [1, 1]]}, "no range for 3 channels"),
    ],
)
def test_metadata_that_makes_no_sense_is_one_error(said, match, flat, tmp_path):
    npz.write(tmp_path / "x.npz", flat, said)
    with pytest.raises(ValueError, match=match):
        mlp_mixer.load(tmp_path / "x.npz")


# --- what others write ---

FOREIGN = ("made by mlp_mixer crc32", "mlp_mixer b16", '{"mlp_mixer_version": "1"}', "Größe")


@pytest.mark.parametrize("text", FOREIGN)
def test_foreign_metadata_is_no_damage(text, flat, tmp_path, equal):
    np.savez(tmp_path / "x.npz", **flat)
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.comment = text.encode()
    equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)
    for metadata in ({"note": text}, {text: "x"}):
        write_safetensors(tmp_path / "x.safetensors", naming.to_layout(flat, "timm"), metadata)
        equal(mlp_mixer.load(tmp_path / "x.safetensors")[1], flat)


def test_long_tables_of_others_are_no_damage(flat, tmp_path, equal):
    metadata = {"log": "y" * 2_000_000}
    write_safetensors(tmp_path / "x.safetensors", naming.to_layout(flat, "timm"), metadata)
    equal(mlp_mixer.load(tmp_path / "x.safetensors")[1], flat)
    np.savez(tmp_path / "x.npz", **flat)
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        for member in archive.infolist():
            member.comment = b"x" * 60_000
        archive.comment = b"x"
    equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)


@pytest.mark.parametrize("kind", ["I16", "U16", "I8", "U32", "U64", "C64", "F8_E4M3", "F8_E5M2"])
def test_arrays_that_are_no_weights_are_named_as_what_they_are(kind, flat, tmp_path):
    dtype = safetensors.DTYPES[kind]
    arrays = naming.to_layout(flat, "timm")
    arrays["head.bias"] = np.zeros(3, dtype)
    write_safetensors(tmp_path / "x.safetensors", arrays, {})
    with pytest.raises(ValueError, match=f"head/bias holds {dtype.name}; weights are float64"):
        mlp_mixer.load(tmp_path / "x.safetensors")
    arrays = naming.to_layout(flat, "timm") | {"num_batches_tracked": np.zeros((), dtype)}
    write_safetensors(tmp_path / "x.safetensors", arrays, {})
    with pytest.raises(ValueError, match=r"num_batches_tracked: has \(\), wanted nothing"):
        mlp_mixer.load(tmp_path / "x.safetensors")


def write_safetensors(path, arrays, metadata):
    """The format by its own description: a length, a table in JSON, the numbers."""
    kinds = {dtype: kind for kind, dtype in safetensors.DTYPES.items()}
    table, numbers = {"__metadata__": metadata}, b""
    for name, array in arrays.items():
        place = [len(numbers), len(numbers) + array.nbytes]
        entry = {"dtype": kinds[array.dtype], "shape": array.shape, "data_offsets": place}
        table[name], numbers = entry, numbers + array.tobytes()
    text = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)


# --- pixels in another range ---


def plain(tmp_path, flat, name="x.safetensors"):
    tmp_path.mkdir(exist_ok=True)
    arrays = {n: np.ascontiguousarray(a) for n, a in naming.to_layout(flat, "timm").items()}
    write_safetensors(tmp_path / name, arrays, {"format": "pt"})
    return tmp_path / name


@pytest.fixture
def logits(highest_precision):
    """The module's logits for pixels in [-1, 1], with the stem as it stands in the file."""
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (5, 4, 4, 3)).astype(np.float32)

    def compute(module, params, change=lambda x: x):
        return np.asarray(jax.jit(module.apply)({"params": params}, change(images)))

    return compute


def to_unit(images):
    return (images + 1) / 2


def test_weights_for_pixels_from_0_to_1_become_ones_for_all(module, params, flat, tmp_path, logits):
    exact = module.clone(gelu="exact")
    want = logits(exact, params, to_unit)
    assert np.abs(logits(exact, params) - want).max() > 0.1  # so the comparison can tell
    by_name = plain(tmp_path, flat, "mixer_b16_224.miil_in21k.safetensors")
    np.testing.assert_allclose(logits(*mlp_mixer.load(by_name)), want, atol=1e-5)
    convert.convert(by_name, tmp_path / "y.npz")
    np.testing.assert_allclose(logits(*mlp_mixer.load(tmp_path / "y.npz")), want, atol=1e-5)
    with zipfile.ZipFile(tmp_path / "y.npz") as archive:
        said = json.loads(archive.comment)["mlp_mixer"]
    assert said["pixel_range"] == [-1, 1]
    assert "stem for pixels in [-1, 1] instead of 0.0 to 1.0" in said["history"][0]["changes"]
    assert dict(describe.describe(by_name).facts)["pixels"].startswith("0.0 to 1.0 (load makes")


def test_the_hubs_miil_models_are_ones_for_pixels_from_minus_1(
    module, params, flat, tmp_path, logits, monkeypatch, caplog
):
    monkeypatch.setattr("mlp_mixer.weights.hub.fetch", lambda name: plain(tmp_path, flat))
    caplog.set_level(logging.INFO)
    loaded = mlp_mixer.load("hf:timm/mixer_b16_224.miil_in21k_ft_in1k")
    want = logits(module.clone(gelu="exact"), params, to_unit)
    np.testing.assert_allclose(logits(*loaded), want, atol=1e-5)
    assert "trained on pixels from 0.0 to 1.0" in caplog.text


def test_pixels_are_converted_before_patches_and_image_resizing(flat, tmp_path, logits):
    path = plain(tmp_path, flat, "mixer_b16_224.miil_in21k.safetensors")
    sizes = dict(image_size=8, patch_size=4)
    module, unit = mlp_mixer.load(plain(tmp_path, flat), **sizes)
    _, folded = mlp_mixer.load(path, **sizes)
    images = np.full((1, 8, 8, 3), 0.3, np.float32)  # of one colour: a larger patch sees the same
    want = module.apply({"params": unit}, (images + 1) / 2)
    np.testing.assert_allclose(module.apply({"params": folded}, images), want, atol=1e-4)


def test_timms_config_beside_a_file_gives_mean_crop_and_tag(
    module, params, flat, tmp_path, logits, caplog
):
    caplog.set_level(logging.INFO)
    path, mean, std = plain(tmp_path, flat), [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    details = dict(tag="goog_in21k", mean=mean, std=std, crop_pct=0.9)
    config = dict(architecture="mixer_b16_224", label_names=["x", "y", "z"], pretrained_cfg=details)
    (tmp_path / "config.json").write_text(json.dumps(config))
    want = logits(module, params, lambda x: ((to_unit(x) - mean) / std).astype(np.float32))
    loaded, folded, said = load.read(path)
    assert loaded.gelu == "tanh"  # as the tag says
    np.testing.assert_allclose(logits(loaded, folded), want, atol=1e-4)
    assert said == {"class_names": ("x", "y", "z"), "crop_fraction": 0.9}
    details |= dict(mean=[0.5] * 3, std=[0.5] * 3)  # [-1, 1], where nothing is to be done
    (tmp_path / "config.json").write_text(json.dumps(config))
    caplog.clear()
    np.testing.assert_array_equal(mlp_mixer.load(path)[1]["stem"]["kernel"], flat["stem/kernel"])
    assert "pixels" not in caplog.text
    convert.convert(path, tmp_path / "model.npz")  # in the same folder, which is no workdir
    assert load.read(tmp_path / "model.npz").settings == said
    details["std"] = "wide"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json"):
        mlp_mixer.load(path)


def test_weights_tuned_in_timm_are_not_those_of_the_tag(flat, tmp_path):
    path = plain(tmp_path, flat)
    details = dict(tag="goog_in21k_ft_in1k", num_classes=1000)
    config = dict(architecture="mixer_b16_224", num_classes=3, pretrained_cfg=details)
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded, _, said = load.read(path)
    assert loaded.gelu == "exact" and "class_names" not in said


def test_miil_weights_that_e108a84_converted_are_recognised(module, params, flat, tmp_path, logits):
    source = "hf:timm/mixer_b16_224.miil_in21k_ft_in1k"
    history = [{"source": source, "sha256": "0" * 64, "changes": []}]
    npz.write(tmp_path / "x.npz", flat, {"gelu": "exact", "history": history})
    want = logits(module.clone(gelu="exact"), params, to_unit)
    np.testing.assert_allclose(logits(*mlp_mixer.load(tmp_path / "x.npz")), want, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("timm/mixer_b16_224.miil_in21k_ft_in1k", "miil_in21k_ft_in1k"),
        ("mixer_l16_224.goog_in21k.safetensors", "goog_in21k"),
        ("mixer_b16_224_miil-9229a591.safetensors", "miil_in21k_ft_in1k"),
        ("mixer_b16_224_miil_in21k-2a558a71.safetensors", "miil_in21k"),
        ("jx_mixer_b16_224-76587d61.safetensors", "goog_in21k_ft_in1k"),
        ("jx_mixer_l16_224_in21k-846aa33c.safetensors", "goog_in21k"),
        ("timm/gmixer_24_224.ra3_in1k", ""),
        ("model.safetensors", ""),
        ("mixer_b16_224.mine", ""),
    ],
)
def test_timms_tags_are_read_from_names_of_any_age(name, tag):
    assert timm_config.tag_of(name) == tag


def test_only_weights_known_as_imagenets_have_its_names(tmp_path, monkeypatch):
    module = mlp_mixer.create(
        num_classes=1000, image_size=4, patch_size=2, num_blocks=1, hidden_dim=2,
        tokens_mlp_dim=2, channels_mlp_dim=2,
    )  # fmt: skip
    flat = {n: np.zeros(s, np.float32) for n, s in shapes(module).items()}
    np.savez(tmp_path / "x.npz", **flat)
    assert "class_names" not in load.read(tmp_path / "x.npz").settings
    npz.write(tmp_path / "y.npz", flat, {"history": [{"source": "sam/Mixer-B_16"}]})  # of e108a84
    assert load.read(tmp_path / "y.npz").settings == {"class_names": imagenet().names}
    monkeypatch.setattr(files, "_locate", lambda name: (tmp_path / "x.npz", None))
    assert load.read("sam/Mixer-B_16").settings == {"class_names": imagenet().names}
    assert load.read("imagenet21k/Mixer-B_16").settings == {}  # whose head is another
    path = plain(tmp_path, flat)
    monkeypatch.setattr(files, "_locate", lambda name: (path, None))
    for tag, names in (("goog_in21k_ft_in1k", imagenet().names), ("miil_in21k", None)):
        assert load.read(f"hf:timm/mixer_b16_224.{tag}").settings.get("class_names") == names


def test_timms_mislabelled_tags_say_so(flat, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("mlp_mixer.weights.hub.fetch", lambda name: plain(tmp_path, flat))
    mlp_mixer.load("hf:timm/mixer_b16_224.goog_in21k")
    assert "ImageNet-1k alone" not in caplog.text
    mlp_mixer.load("hf:timm/mixer_l16_224.goog_in21k_ft_in1k")
    assert "these weights were trained on ImageNet-1k alone" in caplog.text


# --- writing ---


def test_module_and_parameters_have_to_belong_together(module, params, tmp_path):
    for args, match in (
        ((module.clone(num_classes=4), params), r"not those of the module[^$]*head/bias"),
        ((params, module), "the module is a dict"),
        ((module, params | {"head": {"kernel": params["head"]["kernel"]}}), "head/bias: has noth"),
        ((module, params | {"head": {k: v.astype(int) for k, v in params["head"].items()}}),
         "holds int64"),
        ((module, params | {"head": {k: v * np.nan for k, v in params["head"].items()}}),
         r"NaN or infinite:\n  head/bias: 3 numbers"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            mlp_mixer.save(tmp_path / "x.npz", *args)
    with pytest.raises(ValueError, match="names 2 classes, but its head has 3"):
        mlp_mixer.save(tmp_path / "x.npz", module, params, class_names=["a", "b"])
    with pytest.raises(ValueError, match=r"convert makes \.safetensors"):
        mlp_mixer.save(tmp_path / "x.safetensors", module, params)
    for name in ("x.pt", "x", "x.npz.bak"):
        with pytest.raises(ValueError, match=rf"{name} should end in \.npz"):
            mlp_mixer.save(tmp_path / name, module, params)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_stays_one(module, params, file, tmp_path):
    (tmp_path / "disk").mkdir()
    for name, write in (
        ("saved.npz", lambda link: mlp_mixer.save(link, module.clone(gelu="exact"), params)),
        ("converted.npz", lambda link: convert.convert(file, link, gelu="exact")),
    ):
        link, target = tmp_path / name, tmp_path / "disk" / name
        link.symlink_to(target)
        for _ in range(2):  # first there is nothing at its end
            write(link)
            assert link.is_symlink() and mlp_mixer.load(target)[0].gelu == "exact"
    assert sorted(p.name for p in (tmp_path / "disk").iterdir()) == ["converted.npz", "saved.npz"]


def test_converts_into_one_file_at_once_do_not_break_each_other(file, flat, tmp_path, equal):
    failed = []

    def run():
        try:
            convert.convert(file, tmp_path / "x.npz")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    equal(mlp_mixer.load(tmp_path / "x.npz")[1], flat)
    assert sorted(p.name for p in tmp_path.iterdir()) == [file.name, "x.npz"]
