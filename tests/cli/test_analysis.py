"""The commands that draw: the numbers behind their figures."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import mlp_mixer
from mlp_mixer.analysis import filters, tradeoff
from mlp_mixer.runs import metrics
from mlp_mixer.training import initial, loop
from mlp_mixer.training.recipe import make_model

from ..conftest import load_config, nowhere_zero, shrink

pytestmark = pytest.mark.slow


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def checkpoint(tmp_path):
    """A rectangular Mixer whose first block's units are -u for each u, with sizes from 1 to 8."""
    module = mlp_mixer.create(
        num_classes=3, image_size=(8, 12), patch_size=2, num_blocks=2, hidden_dim=10,
        tokens_mlp_dim=16, channels_mlp_dim=8,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = nowhere_zero(module, rng, 1.0)
    units = rng.normal(size=(24, 8)).astype("f4")
    units *= np.arange(1, 9) / np.linalg.norm(units, axis=0)
    params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"] = np.hstack([units, -units])
    path = tmp_path / "model.npz"
    mlp_mixer.save(path, module, params)
    return path


def test_filters_pairs_opposites_and_keeps_the_strongest_pairs(run, checkpoint, tmp_path):
    out, numbers = tmp_path / "f.png", tmp_path / "f.csv"
    run("filters", "--checkpoint", checkpoint, "--units", 6, "--out", out, "--numbers", numbers)
    found = rows(numbers)
    units = [int(row["unit"]) for row in found]
    assert {unit % 8 for unit in units} == {5, 6, 7}  # the three largest
    assert [abs(a - b) for a, b in zip(units[::2], units[1::2], strict=True)] == [8, 8, 8]
    assert all(float(row["similarity"]) == pytest.approx(-1) for row in found)
    frequency = [float(row["frequency"]) for row in found]
    assert frequency == sorted(frequency)
    with Image.open(out) as drawn:
        assert min(drawn.size) > 300


def test_filters_draws_blocks_and_the_stem_side_by_side(run, checkpoint, tmp_path):
    numbers = tmp_path / "f.csv"
    run("filters", "--checkpoint", checkpoint, "--blocks", 0, 1, "--stem",
        "--out", tmp_path / "f.png", "--numbers", numbers)  # fmt: skip
    layers = [row["layer"] for row in rows(numbers)]
    assert layers == ["stem"] * 10 + ["block_0"] * 16 + ["block_1"] * 16


def test_units_of_an_enlarged_mixer_see_their_quarter(checkpoint):
    module, params = mlp_mixer.load(checkpoint, image_size=(16, 24))
    units = filters.choose(module, params)["block_0"]
    small = filters.choose(*mlp_mixer.load(checkpoint))["block_0"]
    assert units.shape == (64, 8, 12)
    for part, (top, left) in enumerate([(0, 0), (0, 6), (4, 0), (4, 6)]):
        quarter = units[16 * part : 16 * (part + 1)].copy()
        np.testing.assert_array_equal(quarter[:, top : top + 4, left : left + 6], small)
        quarter[:, top : top + 4, left : left + 6] = 0
        assert not quarter.any()


def test_a_mosaic_shows_every_unit_at_its_own_scale():
    units = np.zeros((3, 2, 2))
    units[0, 0, 1], units[1, 1, 0], units[2, 1, 1] = 5, -0.1, 1e-3
    image = filters.mosaic(units)
    assert np.nanmax(image) == 1 and np.nanmin(image) == -1
    assert (image == 1).sum() == 2 * (image == -1).sum() > 0
    stem = filters.mosaic(np.random.default_rng(0).normal(size=(5, 4, 4, 3)))
    assert stem.shape[-1] == 3 and stem.min() >= 0 and stem.max() <= 1


def test_the_papers_claims_can_be_read_off_its_points():
    """Section 3.2: H/14 is 0.3 % below ViT-H/14 at 224 pixels and runs 2.2 times faster."""
    points = {(p.name, p.data): p for p in tradeoff.of_paper()}
    ours, vit = points["Mixer-H/14", "JFT-300M"], points["ViT-H/14", "JFT-300M"]
    assert vit.accuracy - ours.accuracy == pytest.approx(0.0033)
    speed = ours.images_per_second_per_device / vit.images_per_second_per_device
    assert speed == pytest.approx(2.2, abs=0.05)
    assert len(tradeoff.of_paper("avg5")) == 26 - 5  # BiT has none


def test_the_frontier_leaves_out_what_another_beats_in_both():
    places = [(1, 0.5), (2, 0.4), (3, 0.7), (3, 0.6), (4, 0.7)]
    assert tradeoff.frontier(places, more_is_better=False) == [(1, 0.5), (3, 0.7)]
    assert tradeoff.frontier(places, more_is_better=True) == [(4, 0.7)]


# Multiplications and additions of a forward pass at 224 pixels, by hand from Table 1 (in billions).
@pytest.mark.parametrize(("variant", "gmacs"), [("S/32", 1.002), ("B/16", 12.601)])
def test_flops_are_twice_the_products_of_the_published_widths(variant, gmacs):
    config = load_config("imagenet", variant)
    found = tradeoff.forward_flops(make_model(config, 1000))
    assert found == pytest.approx(2e9 * gmacs, rel=0.03)  # biases, GELU and the norms are extra


def test_a_runs_point_is_what_its_workdir_says(run, finished, tmp_path):
    workdir, result = finished
    numbers = tmp_path / "t.csv"
    run("tradeoff", workdir, "--flops", "--out", tmp_path / "t.png", "--numbers", numbers)
    (row,) = rows(numbers)
    assert float(row["accuracy"]) == result["test/accuracy"] and row["family"] == "Mixer"
    images = 6 * 16
    speed = float(row["images_per_second_per_device"])
    assert float(row["device_days"]) == pytest.approx(images / speed / 86400)
    # Forward, and twice as much back, for each image: products of 16 tokens of 8 channels, two for
    # each pixel of a patch in the stem and two for each weight in two blocks and the head.
    macs = 16 * 4 * 8 + 2 * (2 * 8 * 16 * 4 + 2 * 16 * 8 * 16) + 8 * 10
    flops = float(row["training_flops"])
    assert 1 < flops / (3 * images * 2 * macs) < 1.5  # biases, GELU and the norms are extra


def test_sam_and_teachers_count_among_a_runs_flops(finished, tmp_path):
    """SAM takes gradients twice; a teacher takes one more pass beside a model's three."""

    def flops(name, field, value, **how):
        workdir = finished.copy(tmp_path / name)
        config = json.loads((workdir / "config.json").read_text())
        (config["sam"] if field == "rho_max" else config)[field] = value
        (workdir / "config.json").write_text(json.dumps(config))
        return tradeoff.read_tradeoff([workdir], **how).points[0].training_flops

    plain = flops("plain", "teacher", "")
    assert flops("sam", "rho_max", 0.05) == pytest.approx(2 * plain)
    assert flops("taught", "teacher", str(finished.workdir)) == pytest.approx(4 / 3 * plain)
    assert flops("alone", "teacher", "gone.npz") is None
    with pytest.raises(ValueError, match=r"alone_2.*FLOPs of teacher=gone\.npz.*without --flops"):
        flops("alone_2", "teacher", "gone.npz", flops=True)


def test_axes_say_which_speed_and_compute_are_whose(finished):
    def labels(**how):
        axes = tradeoff.read_tradeoff(**how).figure().axes
        return [ax.get_xlabel() for ax in axes] + [axes[0].get_ylabel()]

    compute, speed, accuracy = labels(workdirs=[finished.workdir])
    assert (compute, accuracy) == ("training (device-days)", "test/accuracy")
    assert speed == "images/s/device in training"
    compute, speed, accuracy = labels()
    assert (compute, accuracy) == ("pretraining (TPUv3 core-days)", "ImageNet top-1")
    assert speed == "images/s/core of inference"
    both = labels(workdirs=[finished.workdir], paper=True)
    for label, of_runs, of_paper in zip(
        both, ("device-days", "device in training", "test/accuracy"),
        ("pretraining, TPUv3 core-days", "inference on a TPUv3 core", "ImageNet top-1"),
        strict=True,
    ):  # fmt: skip
        runs, papers = label.split("\n")
        assert of_runs in runs and papers.startswith("(paper: ") and of_paper in papers


def test_figure_4_compares_each_permutation_with_the_original(run, tmp_path):
    workdirs = [tmp_path / order for order in ("original", "pixels")]
    for workdir in workdirs:
        config = shrink(load_config("permutation", f"cifar10,mixer,{workdir.name}"))
        config.data.source, config.image_channels = "digits", 1
        for fields in config.evals.values():
            fields.split = "test[:60]"
        config.evals.fewshot.shots = (5,)
        loop.train(config, workdir)
        assert (workdir / "model.npz").exists() == (workdir.name == "original")
    order = mlp_mixer.load(workdirs[1])[0].pixel_order()
    assert sorted(order) == list(range(16 * 16)) and list(order) != sorted(order)
    with pytest.raises(ValueError, match="is a Permuted"):
        mlp_mixer.filters(workdirs[1])
    further = load_config("digits")
    further.init_from = str(workdirs[1])
    with pytest.raises(ValueError, match="pixels is a model of permuted pixels"):
        initial.parameters(further, make_model(further, 10), tuple("0123456789"))
    for workdir in workdirs:  # as the run itself did, the permuted pixels included
        out = run("evaluate", "--checkpoint", workdir)
        last = [line for line in metrics.read(workdir) if "test/loss" in line][-1]
        expected = f"accuracy {last['test/accuracy']:.2%}", f"loss {last['test/loss']:.4f}"
        assert all(text in out for text in expected), (expected, out)
    numbers = tmp_path / "p.csv"
    out = run("permutation", *workdirs, "--out", tmp_path / "p.png", "--numbers", numbers)
    found = {(row["order"], row["step"]): float(row["value"]) for row in rows(numbers)}
    assert set(found) == {(w.name, step) for w in workdirs for step in ("3", "6")}
    change = found["pixels", "6"] / found["original", "6"] - 1
    assert f"{change:+.1%}" in out
