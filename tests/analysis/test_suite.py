"""Table 3 of the paper, and the model's row beside it."""

import csv
import json
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

import mlp_mixer
from mlp_mixer.analysis import suite, table_3
from mlp_mixer.evaluation import throughput
from mlp_mixer.models import mixer
from mlp_mixer.models.init import init

from ..conftest import GOLDEN, load_config

pytestmark = pytest.mark.slow


def test_table_3_is_the_papers():
    """Against a transcript that was made independently of the module."""
    with (GOLDEN / "table_3.csv").open() as file:
        next(file)  # names of the columns
        rows = [
            table_3.Row(model, data, *[float(number) if number else None for number in numbers])
            for model, data, *numbers in csv.reader(file)
        ]
    assert len(rows) == 26 and tuple(rows) == table_3.TABLE_3


def test_published_rows_are_found_by_model_size_and_pretraining():
    assert [row.data for row in table_3.published("Mixer-B/16", 224)] == list(table_3.DATA)
    (row,) = table_3.published("Mixer-L/16", 448, "ImageNet-21k")
    assert (row.imagenet, row.throughput) == (83.91, 105)
    assert table_3.published("Mixer-S/8", 224) == []


# --- the suite ---


WIDTHS = dict(num_blocks=1, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8)  # of T


def make_run(path, source, accuracy=None, crop="resmall", size=16, **model):
    """A workdir as a finished run leaves it, or without an accuracy one that goes on.

    Its model is a T/8, or as `model` says.
    """
    path.mkdir(parents=True)
    config = load_config("transfer", "T/8,cifar10")
    config.data.source, config.eval_crop = source, crop
    config.image_size = config.init_image_size = (size, size)
    config.init_from = "imagenet21k/Mixer-B_16"
    config.model.update(model)
    (path / "config.json").write_text(config.to_json())
    if accuracy is not None:
        (path / "model.npz").touch()
        lines = [{"step": 1, "test/accuracy": 0.1}, {"step": 2, "test/accuracy": accuracy}]
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A run on a very small ImageNet of three classes, with ReaL labels; Table 3 knows its size."""
    monkeypatch.setitem(mixer.SIZES, "T", WIDTHS)
    module = mlp_mixer.create("T/8", num_classes=3, image_size=16)
    params = init(module)
    params["head"]["bias"] = jax.numpy.array([0.0, 1.0, 0.0])  # it always says class 1
    workdir = make_run(tmp_path / "run", "folder:imagenet")
    (tmp_path / "run" / "classes.txt").write_text("a\nb\nc\n")
    mlp_mixer.save(tmp_path / "run" / "model.npz", module, params)
    root = tmp_path / "imagenet"
    for i, name in enumerate("aabbbbcc", 1):
        for folder in (root / "train" / name, root / "val" / name):
            folder.mkdir(parents=True, exist_ok=True)
        file = root / "val" / name / f"ILSVRC2012_val_{i:08}.JPEG"
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(file)
    real = [[], [0, 1], [1], [1], [], [1], [2], [2]]  # 6 images count, 4 of them may be class 1
    (root / "real.json").write_text(json.dumps(real))
    rows = [
        table_3.Row("Mixer-T/8", data, 16, 300, 80.64, 85.80, 92.50, 1384, 0.15)
        for data in table_3.DATA
    ]
    monkeypatch.setattr(table_3, "TABLE_3", rows)
    monkeypatch.setattr(throughput, "BATCH_SIZES", (1,))
    monkeypatch.setattr(throughput, "SECONDS", 0.0)
    return workdir, f"folder:{root}"


@pytest.fixture
def report(run):
    return partial(run, "evaluate", "--suite=paper")


def test_the_suite_puts_the_models_row_beside_the_published_one(imagenet, tmp_path, report):
    workdir, source = imagenet
    sweep = tmp_path / "sweep"
    make_run(sweep / "full", "tfds:cifar10", 0.96)
    transfers = [
        sweep, make_run(tmp_path / "again", "tfds:cifar10", 0.98),  # two runs: their mean
        make_run(tmp_path / "100", "tfds:cifar100", 0.85),
        "Pets=" + make_run(tmp_path / "pets", "folder:pets", 0.9, crop="resize"),
        make_run(tmp_path / "flowers", "tfds:oxford_flowers102", 0.98),
    ]  # fmt: skip
    out = report("--checkpoint", workdir, "--source", source, "--transfers", *transfers)
    lines = out.splitlines()
    # 4 of 8; 4 of the 6 with a label; the mean of 50, 97, 85, 90 and 98.
    assert lines[2].split()[:5] == ["this", "model", "50.00", "66.67", "84.00"]
    assert lines[3].split("epochs")[1].split() == ["80.64", "85.80", "92.50", "1384"]
    assert "ImageNet-21k" in lines[3] and not lines[4]  # the only row: what init_from was
    assert "crop: resmall, to 18x18 and the middle 16x16" in out and "CIFAR-10: 97.00" in out
    assert "Pets:" in out and "evaluated with the crop resize, not resmall" in out


def test_the_suites_classes_are_their_names(imagenet, tmp_path, report):
    workdir, source = imagenet
    (tmp_path / "run" / "classes.txt").write_text("b\na\nc\n")  # so it always says a
    out = report("--checkpoint", workdir, "--source", source)
    assert out.splitlines()[2].split()[2:4] == ["25.00", "16.67"]  # 2 of 8, 1 of 6


def test_what_the_suite_cannot_measure_is_a_dash_with_its_reason(imagenet, tmp_path, report):
    workdir, _ = imagenet
    out = report(
        "--checkpoint", workdir, "--source=folder:nowhere", "--crop=resize",
        "--transfers", make_run(tmp_path / "cifar10", "tfds:cifar10"),
    )  # fmt: skip
    assert out.splitlines()[2].split()[2:5] == ["–"] * 3
    assert "– ImageNet: no folder nowhere" in out and "– ReaL: no folder nowhere" in out
    assert "– CIFAR-10: the run in" in out and "is not finished" in out
    assert "– Avg 5: needs" in out and "CIFAR-10, CIFAR-100, Pets, Flowers" in out
    assert "crop: resize" in out


def test_transfers_of_another_model_or_unknown_data_are_refused(imagenet, tmp_path):
    workdir, _ = imagenet
    other = make_run(tmp_path / "large", "tfds:cifar10", 0.9, size=32)
    with pytest.raises(ValueError, match=r"large: .*T/8 at 32x32 pixels.*T/8 at 16x16 pixels"):
        suite.measure(workdir, transfers=[other])
    mine = make_run(tmp_path / "mine", "folder:mine", 0.9)
    with pytest.raises(ValueError, match=r"mine.*Write NAME=WORKDIR.*CIFAR-10, CIFAR-100, Pets"):
        suite.measure(workdir, transfers=[mine])


def test_a_transfer_is_of_the_size_that_its_model_has(imagenet, tmp_path):
    """Not of the one that its config names, and then changes."""
    workdir, _ = imagenet
    wide = make_run(tmp_path / "wide", "tfds:cifar10", 0.9, hidden_dim=16)
    with pytest.raises(ValueError, match=r"wide: .*hidden_dim=16.* 16x16 pixels, .*T/8"):
        suite.measure(workdir, transfers=[wide])
    other = make_run(tmp_path / "other", "tfds:cifar10", 0.9, patch_size=(4, 4))
    with pytest.raises(ValueError, match=r"other: .*T/4 at 16x16 pixels"):
        suite.measure(workdir, transfers=[other])
    same = make_run(tmp_path / "same", "tfds:cifar10", 0.9, variant=None, patch_size=8, **WIDTHS)
    larger = make_run(tmp_path / "larger", "tfds:cifar100", 0.8, variant="S/8", **WIDTHS)
    remarks = suite.measure(workdir, transfers=[same, larger]).remarks
    assert remarks[-2:] == ["CIFAR-10: 90.00", "CIFAR-100: 80.00"]


def test_an_equals_sign_in_the_path_of_a_transfer_is_no_name(imagenet, tmp_path):
    workdir, _ = imagenet
    one = make_run(tmp_path / "lr=0.1" / "one", "tfds:cifar10", 0.9)
    two = make_run(tmp_path / "lr=0.1" / "two", "folder:pets", 0.8)
    remarks = suite.measure(workdir, transfers=[one, f"Pets={two}"]).remarks
    assert remarks[-2:] == ["CIFAR-10: 90.00", "Pets: 80.00"]


def test_a_runs_row_is_of_the_size_that_its_weights_have(imagenet, tmp_path):
    workdir, source = imagenet
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["model"]["variant"] = "B/16"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    rows = suite.measure(workdir, source=source).rows
    assert [row[0].partition(",")[0] for row in rows[2:]] == ["published: Mixer-T/8"]


def test_a_model_is_known_by_its_widths_also_when_resized():
    module = mixer.create("L/16", image_size=448, tokens_mlp_dim=4 * 512)
    assert suite.variant(module) == "L/16"
    wide = mixer.create("L/16", image_size=(224, 448), tokens_mlp_dim=2 * 512)
    assert suite.variant(wide) == "L/16"
    assert suite.variant(module.clone(hidden_dim=1000)) is None
    assert suite.pretrained_on("imagenet1k/Mixer-B_16") == "ImageNet"
    assert suite.pretrained_on("mine/imagenet21k.npz") is None


def test_throughput_is_the_best_of_the_batch_sizes_that_fit(monkeypatch):
    def speeds(of):
        def images_per_second(module, params, batch_size):
            if batch_size not in of:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return of[batch_size]

        return images_per_second

    for of, best in [
        ({8: 10.0, 16: 20.0, 32: 30.0}, (30.0, 32)),  # 64 does not fit
        ({8: 10.0, 16: 9.0, 32: 12.0, 64: 11.0, 128: 10.0, 256: 99.0}, (12.0, 32)),
    ]:
        monkeypatch.setattr(throughput, "_images_per_second", speeds(of))
        assert throughput.measure(None, None) == best
    monkeypatch.setattr(throughput, "_images_per_second", speeds({}))
    with pytest.raises(jax.errors.JaxRuntimeError):
        throughput.measure(None, None)
