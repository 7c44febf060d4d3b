"""The commands that use a model, as a user calls them."""

import csv
import http.server
import json
import os
import shutil
import threading
from collections import Counter
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

import mlp_mixer
from mlp_mixer.analysis import figures
from mlp_mixer.cli import evaluate, output
from mlp_mixer.data import crews, workers
from mlp_mixer.data.sources import open_source
from mlp_mixer.inference import measure
from mlp_mixer.inference.classifier import load_classifier
from mlp_mixer.models.known_classes import imagenet
from mlp_mixer.runs import folder
from mlp_mixer.training import loop

from ..conftest import load_config, nowhere_zero, shrink

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workdir(finished, tmp_path_factory):
    """A short run on the digits."""
    return finished.copy(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture
def published_like(tmp_path):
    """A file without a run around it: ImageNet's 1,000 classes, RGB."""
    module = mlp_mixer.create(
        num_classes=1000, image_size=32, patch_size=16, num_blocks=1, hidden_dim=8,
        tokens_mlp_dim=4, channels_mlp_dim=16,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = nowhere_zero(module, rng, 1.0)
    names = imagenet().names
    mlp_mixer.save(tmp_path / "published.npz", module, params, class_names=names)
    return tmp_path / "published.npz", module, params


def test_predict_takes_images_of_any_size_and_kind(run, published_like, tmp_path):
    files = []
    for mode, name, size in (
        ("L", "grey.png", (50, 20)), ("RGBA", "clear.png", (33, 32)),
        ("CMYK", "print.jpg", (9, 90)), ("P", "moving.gif", (64, 64)),
        ("RGB", "web.webp", (200, 100)), ("1", "tiny.png", (1, 1)),
    ):  # fmt: skip
        files.append(tmp_path / name)
        Image.new(mode, size).save(files[-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    files.append(tmp_path / "turned.jpg")
    Image.new("RGB", (40, 30)).save(files[-1], exif=exif)
    figure = tmp_path / "figures" / "out.png"
    out = run("predict", "--checkpoint", published_like[0], *files, "--figure", figure)
    assert all(str(path) in out for path in files) and out.count("%") == 5 * len(files)
    with Image.open(figure) as drawn:
        assert min(drawn.size) > 300


def test_predict_goes_on_after_an_image_that_cannot_be_read(command, published_like, tmp_path):
    names = ["a.png", "broken.png", "b.png", "missing.png", "c.png", "pipe.png"]
    for name in names[:5:2]:
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"broken")
    os.mkfifo(tmp_path / "pipe.png")
    figure = tmp_path / "out.png"
    predict = ["predict", "--checkpoint", published_like[0], "--figure", figure]
    status, out, error = command(*predict, *(tmp_path / name for name in names))
    assert status == 1
    told = [line for line in out.splitlines() if line.startswith(str(tmp_path))]
    assert told == [str(tmp_path / name) for name in names[:5:2]]
    assert all(name in error for name in ("broken.png", "missing.png", "pipe.png"))
    assert "missing.png: No such file or directory" in error and "Errno" not in error
    assert "3 of 6 images cannot be read" in error and "Traceback" not in error
    with Image.open(figure) as drawn:
        assert drawn.width > 2 * drawn.height  # three side by side
    figure.unlink()
    told = command(*predict, tmp_path / "broken.png")
    assert "1 of 1 images cannot be read" in told.err and not figure.exists()


def test_predictions_are_those_of_the_model_with_imagenets_names(run, published_like, tmp_path):
    path, module, params = published_like
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((37, 37), Image.NEAREST).save(tmp_path / "x.png")
    classifier = load_classifier(path)
    assert (
        classifier.class_names[:2] == ("tench", "goldfish") and len(classifier.class_names) == 1000
    )
    # Of the released files nothing says how they are used: as their authors do.
    assert (classifier.crop, classifier.crop_fraction, classifier.loss) == (
        "resmall", 0.875, "softmax"
    )  # fmt: skip
    seen = classifier.view(tmp_path / "x.png")
    logits = np.asarray(module.apply({"params": params}, seen[None] / np.float32(127.5) - 1))[0]
    best = np.argsort(-logits)[:3]
    lines = run("predict", "--checkpoint", path, "--top", 3, tmp_path / "x.png").splitlines()[1:]
    for line, i in zip(lines, best, strict=True):
        share, name = line.split(maxsplit=1)
        assert name == classifier.class_names[i]
        assert float(share[:-1]) == pytest.approx(100 * float(jax.nn.softmax(logits)[i]), abs=0.06)


def test_a_thousand_classes_are_not_imagenets_for_that(run, published_like, tmp_path):
    _, module, params = published_like
    mlp_mixer.save(tmp_path / "mine.npz", module, params)
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    out = run("predict", "--checkpoint", tmp_path / "mine.npz", "--top", 1000, tmp_path / "x.png")
    names = {line.split(maxsplit=1)[1] for line in out.splitlines()[1:]}
    assert names == {f"class {i}" for i in range(1000)}


def test_evaluate_repeats_the_runs_last_result_and_draws_a_sheet(run, workdir, tmp_path):
    expected = loop.train(shrink(load_config("digits")), workdir)  # finished: evaluates only
    out = run("evaluate", "--checkpoint", workdir, "--figure", tmp_path / "sheet.png")
    assert f"accuracy {expected['test/accuracy']:.2%}" in out and "on 360 images" in out
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    for more in ([], ["--source", "digits"]):
        weights = run("evaluate", "--checkpoint", workdir / "model.npz", *more)
        assert f"accuracy {expected['test/accuracy']:.2%}" in weights


def test_weights_handed_on_are_used_as_in_their_workdir(workdir, tmp_path):
    shutil.copy(workdir / "model.npz", tmp_path / "mine.npz")
    step = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    here = load_classifier(workdir)
    assert here.class_names == tuple("0123456789")
    assert (here.crop, here.crop_fraction, here.loss) == ("resmall", 1.0, "softmax")
    for place in (tmp_path / "mine.npz", workdir / "model.npz", step):
        there = load_classifier(place)
        for field in ("module", "class_names", "crop", "crop_fraction", "loss"):
            assert getattr(there, field) == getattr(here, field), (place, field)
        jax.tree.map(np.testing.assert_array_equal, there.params, here.params)


def test_evaluate_goes_by_the_names_of_classes(run, command, workdir, tmp_path, monkeypatch):
    names, digits = tuple("9876543210"), open_source("digits", "test[:30]", 1)
    for i in range(len(digits)):
        image, label = digits[i]
        folder = tmp_path / "data" / "test" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{i}.png")
    (tmp_path / "data" / "classes.txt").write_text("\n".join(names) + "\n")
    drawn = []
    monkeypatch.setattr(figures, "sheet", lambda tiles, **_: drawn.extend(tiles))
    monkeypatch.setattr(output, "save_figure", lambda figure, path: None)
    arguments = "--checkpoint", workdir, "--source", f"folder:{tmp_path / 'data'}"
    out = run("evaluate", *arguments, "--figure", "x.png")
    classifier = load_classifier(workdir)
    guesses = classifier.probabilities(np.stack([digits[i][0] for i in range(30)])).argmax(1)
    right = guesses == digits.labels()
    assert f"accuracy {right.mean():.2%}" in out and 0 < right.sum() < 30
    assert Counter(tile.text[0] for tile in drawn) == Counter(map(str, guesses))
    truth = Counter(map(str, digits.labels()[~right]))
    assert Counter(tile.text[-1] for tile in drawn if tile.wrong) == truth
    (tmp_path / "data" / "classes.txt").write_text("\n".join(names).replace("9", "x") + "\n")
    (tmp_path / "data" / "test" / "9").rename(tmp_path / "data" / "test" / "x")
    assert command("evaluate", *arguments).status == 1


def test_evaluate_takes_another_crop_and_a_few_shots(run, workdir):
    assert "(crop resmall 1)" in run("evaluate", "--checkpoint", workdir)
    other = run("evaluate", "--checkpoint", workdir, "--crop=resize", "--crop-fraction=0.5")
    assert "(crop resize 0.5)" in other
    out = run("evaluate", "--checkpoint", workdir, "--fewshot=digits", "--shots", 1, 5)
    assert "digits: 1shot" in out and "digits: 5shot" in out and "on 360 images" in out


def test_evaluate_reads_in_worker_processes(run, workdir, monkeypatch):
    evaluate = "evaluate", "--checkpoint", workdir
    few = *evaluate, "--fewshot=digits", "--shots", 1
    expected = run(*evaluate), run(*few)
    monkeypatch.setattr(workers, "Threads", None)
    with crews.keep_processes(1):
        assert (run(*evaluate, "--workers=1"), run(*few, "--workers=1")) == expected
        monkeypatch.setattr(measure, "read_config", lambda workdir: trained_with_workers)
        trained_with_workers = folder.read_config(workdir)
        trained_with_workers["data"]["workers"] = 1
        assert run(*evaluate) == expected[0]


def test_curves_and_filters_draw_pictures(run, workdir, tmp_path):
    out = run("curves", workdir, workdir, "--out", tmp_path / "curves.png")
    assert "test accuracy" in out and (tmp_path / "curves.png").stat().st_size > 10_000
    run("filters", "--checkpoint", workdir, "--blocks", 1, "--out", tmp_path / "filters.png")
    assert (tmp_path / "filters.png").stat().st_size > 3_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "--checkpoint=nothing.npz", "x.png"], ["nothing.npz"]),
        (["evaluate", "--checkpoint={workdir}", "--source=folder:nowhere"], ["nowhere"]),
        (["evaluate", "--checkpoint={workdir}", "--source=digits:place"], ["10 classes", "20"]),
        (["evaluate", "--checkpoint={workdir}", "--workers=-1"], ["workers=-1", "0 for threads"]),
        (["filters", "--checkpoint={workdir}", "--blocks=7"], ["no block 7", "0 to 1"]),
        (["curves", "nowhere"], ["nowhere", "metrics.jsonl"]),
    ],
)
def test_a_mistake_is_one_clear_message(arguments, words, command, workdir):
    told = command(*(argument.format(workdir=workdir) for argument in arguments))
    assert told.status == 1 and all(word in told.err for word in words), told.err


def test_evaluate_tells_programs_and_each_class(run, workdir, tmp_path):
    found = json.loads(run("evaluate", "--checkpoint", workdir, "--json", "--per-class"))
    assert found["examples"] == 360 and found["source"] == "digits"
    classes = found["per_class"].values()
    assert sum(one["examples"] for one in classes) == 360
    right = sum(one["accuracy"] * one["examples"] for one in classes)
    assert right / 360 == pytest.approx(found["accuracy"])
    table, picture = tmp_path / "c.csv", tmp_path / "c.png"
    run("evaluate", "--checkpoint", workdir, "--confusion", table)
    run("evaluate", "--checkpoint", workdir, "--confusion", picture)
    matrix = np.loadtxt(table, delimiter=",", skiprows=1)[:, 1:]
    assert matrix.sum() == 360 and np.trace(matrix) == pytest.approx(right)
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 300


def test_predict_takes_folders_and_tells_programs(run, workdir, tmp_path):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        Image.new("L", (9, 9)).save(tmp_path / "in" / name)
    predict = ["predict", "--checkpoint", workdir, "--top", 2, tmp_path / "in"]
    told = [json.loads(line) for line in run(*predict, "--json").splitlines()]
    assert [one["image"] for one in told] == [
        str(tmp_path / "in" / n) for n in ("a/1.png", "b/2.png")
    ]
    assert all(len(one["classes"]) == 2 for one in told)
    assert run(*predict, "--csv", tmp_path / "x.csv") == ""
    rows = list(csv.DictReader((tmp_path / "x.csv").open(newline="")))
    assert [(row["image"], row["class"], float(row["probability"])) for row in rows] == [
        (one["image"], guess["name"], guess["probability"])
        for one in told
        for guess in one["classes"]
    ]
    assert [row["rank"] for row in rows] == ["1", "2", "1", "2"]
    both = run(*predict, "--csv", tmp_path / "y.csv", "--json", "--workers=1")
    assert [json.loads(line) for line in both.splitlines()] == told
    assert (tmp_path / "y.csv").read_bytes() == (tmp_path / "x.csv").read_bytes()


def test_a_file_name_that_is_not_utf_8_is_written_escaped(run, workdir, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    names = [b"a.png", b"caf\xe9.png", "caf\u00e9.png".encode()]
    for name in names:
        with open(os.fsencode(tmp_path / "in") + b"/" + name, "wb") as file:
            Image.new("L", (9, 9)).save(file, "png")
    shown = [name.decode(errors="backslashreplace") for name in names]
    predict = ["predict", "--checkpoint", workdir, "--top", 1, tmp_path / "in"]
    run(*predict, "--csv", tmp_path / "x.csv", "--figure", tmp_path / "x.png")
    rows = list(csv.DictReader((tmp_path / "x.csv").open(newline="", encoding="utf-8")))
    assert {row["image"].removeprefix(f"{tmp_path}/in/") for row in rows} == set(shown)
    out = run(*predict)
    assert all(f"{tmp_path}/in/{name}\n" in out for name in shown)
    told = [json.loads(line)["image"] for line in run(*predict, "--json").splitlines()]
    assert {os.fsencode(name).rpartition(b"/")[2] for name in told} == set(names)  # to be opened


def test_an_image_is_the_same_however_it_is_given(workdir, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "x.png")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.func.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/x.png"
        ways = [tmp_path / "x.png", str(tmp_path / "x.png"), address, image, pixels]
        found = load_classifier(workdir).probabilities(ways)
        with pytest.raises(OSError, match="missing"):
            load_classifier(workdir).probabilities(address.replace("x.png", "missing.png"))
        server.shutdown()
    assert found.shape == (5, 10) and (found == found[0]).all()
    with pytest.raises(ValueError, match=r"uint8.*float64"):
        load_classifier(workdir).probabilities(np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("module", "function", "words"),
    [
        (evaluate, "evaluate", []),
        (evaluate, "few_shot", ["--fewshot=digits"]),
        (evaluate.suite, "measure", ["--suite=paper"]),
        (evaluate.robustness, "measure", ["--suite=robustness"]),
    ],
)
def test_all_that_evaluate_does_gets_the_number_type(module, function, words, command, monkeypatch):
    given = []

    def measure(*_, dtype, **__):
        given.append(dtype)
        raise ValueError("enough")

    monkeypatch.setattr(module, function, measure)
    told = command("evaluate", "--checkpoint=any.npz", "--dtype=bfloat16", *words)
    assert told.status == 1 and "enough" in told.err and given == ["bfloat16"]


PLAIN, FEW, PAPER = [], ["--fewshot=digits"], ["--suite=paper"]
ROBUSTNESS = ["--suite=robustness"]


@pytest.mark.parametrize(
    ("mode", "flag", "needs"),
    [
        *[(mode, flag, "an evaluation without --fewshot and --suite")
          for mode in (FEW, PAPER, ROBUSTNESS)
          for flag in ("--figure=x.png", "--confusion=x.csv", "--per-class")],
        (FEW, "--source=digits", "--suite=paper or --suite=robustness"),
        *[(mode, "--split=test", "--fewshot or an evaluation without")
          for mode in (PAPER, ROBUSTNESS)],
        *[(mode, flag, "--fewshot") for mode in (PLAIN, PAPER, ROBUSTNESS)
          for flag in ("--shots=5", "--train-split=train")],
        *[(mode, flag, "--suite=paper") for mode in (PLAIN, FEW, ROBUSTNESS)
          for flag in ("--transfers=x", "--pretraining=ImageNet")],
        *[(mode, "--sets=A", "--suite=robustness") for mode in (PLAIN, FEW, PAPER)],
    ],
)  # fmt: skip
def test_a_flag_that_would_be_ignored_is_refused(mode, flag, needs, command):
    told = command("evaluate", "--checkpoint=nothing.npz", *mode, flag)
    (line,) = (line for line in told.err.splitlines() if line.startswith("error: "))
    assert told.status == 1 and f"error: {flag.partition('=')[0]} is for " in line
    assert needs in line and (mode[0].split("=d")[0] if mode else "without") in line


def test_fewshot_and_a_suite_are_not_measured_at_once(command):
    told = command("evaluate", "--checkpoint=nothing.npz", "--fewshot=digits", "--suite=paper")
    assert told.status == 1 and "--fewshot and --suite=paper" in told.err


@pytest.mark.parametrize("mode", [PLAIN, FEW, PAPER, [*ROBUSTNESS, "--sets", "C=folder:x"]])
def test_a_crop_fraction_of_zero_is_out_of_range(mode, command, workdir):
    told = command("evaluate", "--checkpoint", workdir, *mode, "--crop-fraction=0")
    assert told.status == 1 and "a fraction over 0 and up to 1, not 0.0" in told.err, told.err
