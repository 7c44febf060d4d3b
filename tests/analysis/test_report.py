"""A report of runs is one HTML page with all that the workdirs say, and needs nothing else."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
from PIL import Image

import mlp_mixer
from mlp_mixer.analysis import page, report
from mlp_mixer.models.init import init
from mlp_mixer.runs import folder, metrics, starts
from mlp_mixer.training import loop

from ..conftest import load_config, shrink

slow = pytest.mark.slow
CLASSES = ('a & "b"', "<b>bold</b>", "plain's")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WITHOUT_SERVICES = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr",
]  # fmt: skip


class Parsed(HTMLParser):
    """A page by its tags; raises if they are not nested as they should be."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.images, self.text, self._open = set(), [], "", []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in ("img", "meta", "link", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "title"):
            self.text += f"{data}\n"


def decoded(image: dict) -> bytes:
    kind, data = re.fullmatch(r"data:image/([\w+]+);base64,(.+)", image["src"]).groups()
    content = base64.b64decode(data, validate=True)
    if kind == "svg+xml":
        assert ElementTree.fromstring(content).tag.endswith("svg")
    else:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
    return content


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a short run on images of classes with awkward names, and one that goes on."""
    path = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 6)):
        for name in CLASSES:
            (path / "data" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / "data" / part / name / f"{i}.png")
    config = shrink(load_config("digits"))
    config.data.source, config.image_channels = f"folder:{path / 'data'}", 3
    loop.train(config, path / "<i>first")
    config.lr, config.init_from = 0.5, str(path / "<i>first")
    loop.train(config, path / "second")
    return path


@slow
def test_a_report_has_all_of_a_run_and_escapes_it(runs):
    found = mlp_mixer.report(runs / "<i>first", price_per_hour=2)
    read = Parsed(found.html)
    assert not read.tags & {"b", "i", "script", "iframe", "object"}
    assert not re.findall(r"https?://|url\(|@import", found.html)
    expected = [
        "<i>first", f"folder:{runs}", "24 images of 3 classes", "finished, 6 steps of 16 images",
        "random, seed 0", f"jax {jax.__version__}", "device-hours", "at 2 a device-hour",
        "test accuracy", "not known", "starts of the run (1)", "tokens_mlp_dim", "label_smoothing",
    ]  # fmt: skip
    assert [words for words in expected if words not in read.text] == []
    assert "top5" not in read.text  # of three classes
    result = mlp_mixer.evaluate(runs / "<i>first")
    wrong = result.predictions.errors(36)
    assert f"{len(wrong)} of 18 images" in read.text
    alts = [image["alt"] for image in read.images]
    assert sum("classified as" in alt for alt in alts) == len(wrong) > 0
    names = {name for name in CLASSES for alt in alts if name in alt}
    assert len(names) > 1 and all(name in read.text for name in names)
    for alt in ("loss", "accuracy", "confusion", "before", "after training"):
        assert any(alt in text for text in alts), alt
    assert all(decoded(image) for image in read.images)


@slow
def test_runs_side_by_side_differ_in_what_was_changed(runs):
    found = mlp_mixer.report([runs / "<i>first", runs / "second"], evaluated=False)
    assert found.workdirs == (str(runs / "<i>first"), str(runs / "second"))
    read = Parsed(found.html)
    part = (
        found.html.partition("Fields in which they differ")[2]
        .partition("<h2>")[0]
        .partition("<tbody>")[2]
    )
    rows = re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>", part)
    rows = {name: (a, b) for name, a, b in rows}
    assert set(rows) - {"init_image_size", "init_patch_size"} == {"lr", "init_from"}
    assert rows["lr"] == ("0.005", "0.5")
    assert "Errors" not in read.text and "classified as" not in found.html
    assert read.text.count("Token-mixing filters") == 2
    last = [metrics.read(runs / name)[-1]["test/accuracy"] for name in ("<i>first", "second")]
    assert all(f"{share:.2%}" in read.text for share in last)


@slow
@pytest.mark.parametrize("name", ["<i>first", "second"])
def test_filters_before_are_those_training_began_with(runs, name, monkeypatch):
    drawn = []

    class Spy(report.Filters):
        def figure(self):
            drawn.append(self)
            return super().figure()

    monkeypatch.setattr(report, "Filters", Spy)
    mlp_mixer.report(runs / name, evaluated=False)
    before, after = (found.units["block_0"] for found in drawn)
    module, params = mlp_mixer.load(runs / name)
    began = init(module, 0) if name == "<i>first" else mlp_mixer.load(runs / "<i>first")[1]
    for units, tree in ((before, began), (after, params)):
        kernel = np.asarray(tree["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"])
        np.testing.assert_array_equal(units, kernel.T.reshape(units.shape))
    np.testing.assert_array_equal(drawn[0].order["block_0"], drawn[1].order["block_0"])


@slow
def test_what_is_not_there_is_left_out_with_the_reason(runs, tmp_path, monkeypatch):
    shutil.copytree(runs / "second", tmp_path / "run")
    (tmp_path / "run" / starts.FILE).unlink()
    config = json.loads((tmp_path / "run" / folder.CONFIG_FILE).read_text())
    config["data"]["source"] = "folder:nowhere"
    config["init_from"] = "imagenet21k/Mixer-B_16"  # which must not be downloaded
    monkeypatch.setenv("MLP_MIXER_CACHE", str(tmp_path))
    (tmp_path / "run" / folder.CONFIG_FILE).write_text(json.dumps(config))
    read = Parsed(mlp_mixer.report(tmp_path / "run").html)
    assert "the run is of a version that did not record it" in read.text
    assert re.search("Left out: .*nowhere", read.text)
    assert "imagenet21k/Mixer-B_16 is not here any more" in read.text
    assert not any("before" in image["alt"] for image in read.images)
    assert "of training steps alone" in read.text
    for name in (metrics.FILE, folder.WEIGHTS_FILE, folder.FINISHED_FILE):
        (tmp_path / "run" / name).unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    read = Parsed(mlp_mixer.report(tmp_path / "run").html)
    assert "No evaluation yet" in read.text and "There are no metrics yet" in read.text
    assert "not finished, 0 steps" in read.text and not read.images


@slow
def test_a_model_that_is_no_mixer_has_no_filters(tmp_path):
    config = shrink(load_config("permutation", "cifar10,mixer,pixels"))
    config.data.source, config.image_channels = "digits", 1
    for name, fields in config.evals.items():
        fields.split, fields.enabled = "test[:60]", name == "test"
    loop.train(config, tmp_path)
    assert "filters" not in mlp_mixer.report(tmp_path, evaluated=False).html


@slow
def test_cost_is_from_start_to_end_on_all_devices(runs, tmp_path):
    shutil.copytree(runs / "second", tmp_path / "run")
    [start] = starts.read(tmp_path / "run")
    start |= {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T12:30:00+00:00",
              "devices": 4, "peak_bytes": 3 * 2**29}  # fmt: skip
    again = start | {"ended": "2026-01-01T10:30:00+00:00", "peak_bytes": 2**30}
    (tmp_path / "run" / starts.FILE).write_text(json.dumps([start, again]))
    text = mlp_mixer.report(tmp_path / "run", evaluated=False, price_per_hour=1.5).html
    assert "3:00:00 from start to end, in 2 starts; 12 device-hours" in text
    assert "18.00, at 1.5 a device-hour" in text and "1.5 GiB at most" in text
    # Started again when it was finished, it was only evaluated.
    last = again | {"after_step": 6, "devices": 1, "device": "laptop", "command": "evaluate it"}
    (tmp_path / "run" / starts.FILE).write_text(json.dumps([start, again, last]))
    later = mlp_mixer.report(tmp_path / "run", evaluated=False, price_per_hour=1.5).html
    assert later.partition("starts of the run")[0] == text.partition("starts of the run")[0]
    # One was killed, or there were some that version 0.1 did not record.
    for known in ([start, again | {"ended": None}], [start | {"after_step": 3}]):
        (tmp_path / "run" / starts.FILE).write_text(json.dumps(known))
        assert "of training steps alone" in mlp_mixer.report(tmp_path / "run", evaluated=False).html


@slow
def test_the_command_writes_the_page_of_the_function(runs, command, tmp_path):
    out = tmp_path / "new" / "page.html"
    told = command("report", runs / "second", "--no-evaluation", f"--out={out}")
    assert told.status == 0 and not told.out and str(out) in told.err
    assert out.read_text() == mlp_mixer.Run(runs / "second").report(evaluated=False).html


def test_what_no_report_can_be_made_of_is_refused(command, tmp_path):
    told = command("report", tmp_path / "nowhere")
    assert told.status == 1 and "nowhere is not the workdir" in told.err
    for price in (-1, float("nan")):
        with pytest.raises(ValueError, match="price_per_hour is"):
            mlp_mixer.report(tmp_path, price_per_hour=price)
    with pytest.raises(ValueError, match="needs the workdir"):
        mlp_mixer.report([])


def test_a_notebook_shows_the_page_in_a_frame():
    shown = report.Report(("a",), page.page("t", page.element("p", "<&'\"")))._repr_html_()
    frame = re.fullmatch(r'<iframe srcdoc="([^"]*)" style="[^"]*"></iframe>', shown)
    assert "&lt;&amp;&#x27;&quot;" in html.unescape(frame[1])


def test_html_is_escaped_once_wherever_it_stands():
    cell = page.element("code", "<&>", title='"')
    assert cell == '<code title="&quot;">&lt;&amp;&gt;</code>'
    assert f"<td>{cell}</td><td>&lt;</td>" in page.table([["", ""], [cell, "<"]])
    assert page.details("<", "<").count("&lt;") == 2
    assert "&lt;title" in page.page("<title") and "\ud800" not in page.page("\ud800")


def test_a_photograph_is_small_and_keeps_small_images_exact():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    [image] = Parsed(page.photograph(pixels, "x", ["y"])).images
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(decoded(image)))), pixels)
    [image] = Parsed(page.photograph(np.zeros((900, 300, 1), np.uint8), "x", [])).images
    assert Image.open(io.BytesIO(decoded(image))).size == (53, 160)


def browse(tmp_path, file, *arguments) -> subprocess.CompletedProcess:
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    return subprocess.run(
        [CHROMIUM, *WITHOUT_SERVICES, profile, *arguments, file.as_uri()],
        capture_output=True, check=True, text=True, timeout=300,
    )  # fmt: skip


@slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium (apt-get install chromium)")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_a_report_at_any_width(runs, tmp_path, width):
    found = mlp_mixer.report([runs / "<i>first", runs / "second"])
    found.save(tmp_path / "report.html")
    told = browse(
        tmp_path, tmp_path / "report.html", f"--screenshot={tmp_path / 'a.png'}",
        f"--window-size={width},900",
    )  # fmt: skip
    assert "CONSOLE" not in told.stderr
    with Image.open(tmp_path / "a.png") as shot:
        assert shot.width == width and shot.convert("L").getextrema()[0] < 100
    # The page itself runs no script: one around it measures it.
    script = (
        "window.onload = () => { const page = document.querySelector('iframe').contentDocument;"
        "const images = [...page.images].map(x => [x.naturalWidth, x.clientWidth]);"
        "document.body.textContent = JSON.stringify({images, text: page.body.innerText,"
        "width: page.documentElement.scrollWidth}) }"
    )
    style = f"width: {width}px; height: 800px; border: 0"
    frame = f'<iframe srcdoc="{html.escape(found.html)}" style="{style}"></iframe>'
    (tmp_path / "around.html").write_text(f"<body>{frame}<script>{script}</script></body>")
    told = browse(tmp_path, tmp_path / "around.html", "--dump-dom", "--window-size=1400,900")
    seen = json.loads(html.unescape(re.search(r"\{.*\}", told.stdout, re.S)[0]))
    assert seen["width"] <= width  # what is wider scrolls by itself
    assert len(seen["images"]) == found.html.count("<img ") > 8
    assert all(natural > 5 and 40 < shown <= width for natural, shown in seen["images"])
    for words in ("<i>first", "Fields in which they differ", "Confusion matrix", "(is )?plain's"):
        assert re.search(words, seen["text"]), words
