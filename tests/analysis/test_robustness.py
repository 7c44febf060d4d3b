"""evaluate --suite=robustness: a model beside published figures."""

import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

import mlp_mixer
from mlp_mixer.analysis import published_robustness, robustness
from mlp_mixer.analysis.robustness_table import MEASURES
from mlp_mixer.data.corruptions import COUNTED, EXTRA
from mlp_mixer.evaluation.corruption_error import ALEXNET
from mlp_mixer.models import bit, mixer, vit
from mlp_mixer.models.init import init
from mlp_mixer.models.known_classes import imagenet
from mlp_mixer.models.permuted import Permuted

from ..conftest import ROOT

IDS = imagenet().ids


def save(path, module, best, class_names=None):
    """Weights that always prefer the same classes, the first of them most."""
    params = jax.tree.map(np.zeros_like, init(module))
    params["head"]["bias"][list(best)] = np.arange(len(best), 0, -1)
    mlp_mixer.save(path, module, params, class_names=class_names)
    return str(path)


def tiny(num_classes):
    return mixer.create(
        num_classes=num_classes, image_size=8, patch_size=4, num_blocks=1, hidden_dim=4,
        tokens_mlp_dim=4, channels_mlp_dim=4,
    )  # fmt: skip


def put(root, labels, names=IDS):
    for i, label in enumerate(labels, 1):
        path = root / names[label] / f"ILSVRC2012_val_{i:08}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return f"folder:{root}"


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A model that says class 0, then 6, then 1, and very small sets. TFDS has prepared none."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    for corruption in COUNTED + EXTRA[:1]:
        for severity in range(1, 6):
            put(tmp_path / "c" / corruption / str(severity), [0, 0, 9, 9])
    put(tmp_path / "imagenet/val", [0, 0, 0, 6, 1, 3])
    (tmp_path / "imagenet/real.json").write_text("[[], [0], [7], [6], [1], [9]]")
    return {
        "source": f"folder:{tmp_path}/imagenet",
        "sets": [
            "A=" + put(tmp_path / "a", [6, 6, 6, 11]),
            "R=" + put(tmp_path / "r", [1, 1, 6, 2]),
            "v2-topimages=" + put(tmp_path / "top", [0, 3]),
            f"C=folder:{tmp_path}/c",
            "Sketch",
        ],
    }


# By hand: A and R never have class 0. Among A's classes 6 is best, of R's too (it has 6 and 1).
# Corrupted images are right in half the cases.
EXPECTED = {
    "imagenet": 50, "real": 20, "v2_top": 50, "a": 75, "a_clean": 100, "a_of_1000": 0,
    "r": 25, "r_clean": 50, "r_of_1000": 0, "c": 50,
    "mce": 100 * np.mean([0.5 / error for error in ALEXNET.values()]), "relative_mce": 0,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("names", [None, imagenet().names, IDS, IDS[::-1]])
def test_a_model_is_measured_on_all_sets_that_are_there(sets, tmp_path, names):
    """With its classes unknown, in timm's order by name or id, or in another order."""
    best = [0, 6, 1] if names != IDS[::-1] else [999, 993, 998]
    file = save(tmp_path / "m.npz", tiny(1000), best, names)
    found = mlp_mixer.robustness(file, **sets)
    assert found.measured == pytest.approx(EXPECTED)
    assert [text.partition(":")[0] for text in found.missing] == ["ImageNet-Sketch"]
    assert found.corrupted.accuracy["fog"] == dict.fromkeys(range(1, 6), 0.5)


@pytest.mark.slow
def test_the_command_prints_tables_or_json(sets, tmp_path, run, monkeypatch):
    monkeypatch.setattr(robustness.suite, "variant", lambda *args: "S/32")
    file = save(tmp_path / "m.npz", tiny(1000), [0, 6, 1], IDS)
    command = ["evaluate", "--suite=robustness", "--checkpoint", file, "--sets", *sets["sets"]]
    command += ["--source", sets["source"]]
    out = run(*command)
    rows = [re.split(r" {2,}", line.strip()) for line in out.splitlines()]
    assert rows[0] == ["this model", "AdamW [GSAM]", "SAM [GSAM]", "GSAM [GSAM]"]
    cells = {first: rest for first, *rest in rows}
    assert cells["ImageNet-R, all 1,000"] == ["0.00", "16.90", "18.60", "22.60"]
    assert cells["corrupted images (C), mean accuracy"] == ["50.00", "35.20", "39.30", "44.60"]
    assert cells["gaussian_noise"] == ["50.00"] * 6 + ["56.41"]
    assert cells["gaussian_blur (not counted)"] == ["50.00"] * 6 + ["–"]
    assert cells["mean of 15"] == ["50.00"] * 6 + ["64.67"]
    assert "– ImageNet-Sketch: tfds:imagenet_sketch is not prepared" in out
    assert "[GSAM]: arXiv 2203.08065" in out and "[timm]" not in out
    found = json.loads(run(*command, "--json"))
    assert found["measured"] == pytest.approx(EXPECTED)
    assert found["corruptions"]["snow"]["3"] == 0.5 and found["published"][0]["model"]


def test_published_figures_are_those_of_the_list_of_weights():
    """Both were transcribed from the same tables."""
    count = 0
    for row in mlp_mixer.list_pretrained():
        found = published_robustness.of_file(row.name)
        if found is None:
            assert row.r is row.r_of_1000 is None
            continue
        assert found.model == f"Mixer-{row.variant}"
        for key in ("v2", "a", "r", "r_of_1000", "sketch"):
            assert found.accuracies.get(key) == getattr(row, key), (row.name, key)
        count += 1
    assert count == 12


def test_published_rows_are_of_the_model_and_mark_the_file():
    rows = published_robustness.of_model("Mixer-B/16")
    assert [row.weights for row in rows] == ["AdamW", "SAM", "GSAM", "imagenet1k", "MIIL"]
    assert published_robustness.of_file("gsam/Mixer-B_16") == rows[2]
    assert published_robustness.of_file("hf://timm/mixer_b16_224.miil_in21k_ft_in1k@x") == rows[4]
    assert published_robustness.of_file("gsam.npz") is None
    assert all(set(row.accuracies) <= set(MEASURES) for row in published_robustness.TABLE)
    assert rows[2].accuracies["c"] == 54.4 and rows[3].accuracies["a_clean"] == 91.83


def test_a_model_has_the_published_name_of_its_size():
    for kind, module in (("Mixer", mixer), ("ViT", vit)):
        assert robustness._model_name(module.create("B/16")) == f"{kind}-B/16"
        assert robustness._model_name(module.create("B/16", patch_size=32)) == f"{kind}-B/32"
        assert robustness._model_name(module.create("B/16", hidden_dim=1020)) is None
    assert robustness._model_name(bit.create("R50x1")) is None
    permuted = Permuted(vit.create("B/16"), "pixels", (16, 16), 0)
    assert robustness._model_name(permuted) is None


def test_models_of_other_classes_are_refused_in_one_line(tmp_path, command):
    file = save(tmp_path / "m.npz", tiny(2), [0], ["cat", "dog"])
    told = command("evaluate", "--suite=robustness", "--checkpoint", file)
    (line,) = (line for line in told.err.splitlines() if "error: " in line)
    assert told.status == 1 and "'cat', 'dog'" in line and line.endswith("--sets C=SOURCE")
    own = save(tmp_path / "1000.npz", tiny(1000), [0], [f"class {i}" for i in range(1000)])
    with pytest.raises(ValueError, match="ImageNet has other classes than"):
        mlp_mixer.robustness(own, sets=["A"])
    with pytest.raises(ValueError, match=r"there is no set 'B'; use v2,.* A, R, Sketch, C"):
        mlp_mixer.robustness(file, sets=["B=folder:x"])


def test_corrupted_images_of_other_classes_have_no_mce(tmp_path, run):
    file = save(tmp_path / "m.npz", tiny(2), [1], ["cat", "dog"])
    names = ("cat", "dog")
    put(tmp_path / "clean/test", [1, 1, 1, 0], names)
    put(tmp_path / "clean/train", [1, 0], names)
    for severity in range(1, 6):
        put(tmp_path / "c/fog" / str(severity), [0, 1], names)
    put(tmp_path / "c/snow/1", [0], names)  # of the other class there are no images
    sets = [f"C=folder:{tmp_path}/c"]
    found = mlp_mixer.robustness(file, f"folder:{tmp_path}/clean", sets=sets)
    assert found.measured == {"clean": 75.0}  # no mean over two of 15 corruptions
    assert found.corruption_rows()[1:] == [
        ("snow", "0.00", "–", "–", "–", "–", "–"),
        ("fog", *["50.00"] * 6),
        ("mean of 1", *["50.00"] * 6),
    ]
    assert found.corruption_rows()[0][-1] == "mean" and "no mCE" in found.remarks[1]
    assert "it lacks gaussian_noise, " in found.remarks[0]
    assert ", snow 2, 3, 4, 5, frost, brightness, " in found.remarks[0]
    assert "give a source" in mlp_mixer.robustness(file, sets=sets).missing[0]
    out = run("evaluate", "--suite=robustness", "--checkpoint", file, "--sets", *sets)
    assert "mean of 1" in out
    with pytest.raises(ValueError, match=r"class folders that .*m.npz has not: mouse"):
        put(tmp_path / "other/fog/1", [0], ["mouse"])
        mlp_mixer.robustness(file, sets=[f"C=folder:{tmp_path}/other"])


def test_the_page_of_published_figures_shows_the_same():
    text = (ROOT / "docs/results/published_robustness.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    shown = {(row[0], row[1]): list(map(float, row[2:])) for row in rows if row[0] != "model"}
    assert shown == {
        row[:2]: list(row.accuracies.values()) for row in published_robustness.TABLE
    }  # fmt: skip
