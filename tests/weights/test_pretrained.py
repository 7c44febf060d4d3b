"""The table of published weights, against the tables of their sources."""

import itertools
import math
import re
from html.parser import HTMLParser

import pytest
from flax import traverse_util

import mlp_mixer
from mlp_mixer.models.init import shapes
from mlp_mixer.weights import download, included, released, timm_config

from ..conftest import ROOT, SHARED, load_config

TABLE = mlp_mixer.list_pretrained()
ROWS = {row.name: row for row in TABLE}
GSAM, PAPER = "beyond_the_paper.md", "mixer_paper.md"


def reference(page: str, section: str) -> dict[str, list[str]]:
    """The rows of the tables in one section of a reference, by their first cells."""
    path = SHARED / "reference" / page
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    [text] = re.findall(rf"^#+ {re.escape(section)}.*?(?=^#|\Z)", path.read_text(), re.M | re.S)
    rows = (re.split(r" *\| *", line.strip("| \n")) for line in text.splitlines() if "|" in line)
    return {name: cells for name, *cells in rows}


def test_every_released_file_and_every_mixer_of_timm_is_listed():
    timms = [name for name in TABLE.names if name.startswith("hf://timm/mixer_")]
    assert TABLE.names == [*released.RELEASED, *timms, *included.INCLUDED] and len(timms) == 6
    assert len(mlp_mixer.list_pretrained("gsam/*")) == 5 and not mlp_mixer.list_pretrained("jft*")


PUBLISHED = [row for row in TABLE if row.name not in included.INCLUDED]


@pytest.mark.parametrize("row", PUBLISHED, ids=[row.name for row in PUBLISHED])
def test_parameters_are_those_of_the_module(row):
    module = mlp_mixer.create(row.variant, num_classes=row.num_classes, image_size=row.image_size)
    assert row.parameters == sum(math.prod(shape) for shape in shapes(module).values())
    assert 0 <= row.bytes - 4 * row.parameters < 100_000  # float32, and what says where they are


def test_weights_in_the_package_are_what_their_row_says(monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("they are here"))
    row = ROWS["cifar10/Mixer-nano"]
    classifier = mlp_mixer.load_classifier(row.name)
    module, params = mlp_mixer.load(row.name)
    assert row.parameters == sum(x.size for x in traverse_util.flatten_dict(params).values())
    assert row.bytes == included.path_of(row.name).stat().st_size < 5e6
    assert module.image_size == (row.image_size, row.image_size)
    assert module.num_classes == row.num_classes == len(classifier.class_names)
    config = load_config("cifar10", row.variant)
    assert all(getattr(module, name) == value for name, value in config.model.items())


@pytest.mark.parametrize("recipe", ["sam", "gsam"])
def test_accuracies_of_sam_and_gsam_are_those_of_their_table(recipe):
    published = reference(GSAM, "1.3")
    for row in mlp_mixer.list_pretrained(f"{recipe}/*"):
        _, sam, gsam = published[f"Mixer-{row.variant}"]
        cells = {"sam": sam, "gsam": gsam}[recipe].split(" / ")
        assert [row.imagenet, row.real, row.v2, row.r_of_1000] == [float(x) for x in cells[:4]]
        assert row.a is row.r is row.sketch is None


def test_accuracies_on_robustness_sets_are_those_of_timms_table():
    published = reference(GSAM, "2. Robustness sets")
    for names, where in (
        (("imagenet1k/Mixer-B_16", "hf://timm/mixer_b16_224.goog_in21k_ft_in1k"), "B/16 (the i1k"),
        (("imagenet1k/Mixer-L_16", "hf://timm/mixer_l16_224.goog_in21k_ft_in1k"), "L/16 (the i1k"),
        (("hf://timm/mixer_b16_224.miil_in21k_ft_in1k",), "B/16 MIIL"),
    ):
        [cells] = [cells for name, cells in published.items() if name.startswith(where)]
        numbers = [float(cell.partition(" ")[0]) for cell in cells]
        for name in names:
            row = ROWS[name]
            have = [row.imagenet, row.real, row.v2, row.a, row.r, row.sketch]
            first = 2 if name.startswith("imagenet1k/") else 0  # those two are the paper's
            assert have[first:] == numbers[first:] and row.r_of_1000 is None


def test_accuracies_of_the_authors_are_those_of_table_3():
    path = SHARED / "reference" / PAPER
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    table = path.read_text().partition("### 2.2 Table 3")[2].partition("### 2.3")[0]
    part = "*ImageNet, extra", "*ImageNet-21k", "*JFT"
    in1k, in21k = (table.partition(a)[2].partition(b)[0] for a, b in itertools.pairwise(part))
    for size in "BL":
        pattern = rf"Mixer-{size}/16 \| 224 \| 300 \| ([\d.]+) \| ([\d.]+)"
        row, (found,) = ROWS[f"imagenet1k/Mixer-{size}_16"], re.findall(pattern, in1k)
        assert (row.imagenet, row.real) == tuple(map(float, found))
        [(fine_tuned, _)] = re.findall(pattern, in21k)
        row = ROWS[f"imagenet21k/Mixer-{size}_16"]
        assert f"; {float(fine_tuned)} on ImageNet once fine-tuned" in row.about
        assert row.imagenet is None  # the file itself has another head


def test_tags_that_are_wrong_are_listed_as_what_they_are():
    for name, row in ROWS.items():
        if timm_config.tag_of(name) == "goog_in21k_ft_in1k":
            assert row.about.startswith("ImageNet-1k alone, whatever its tag says")
            same = ROWS[row.about.rpartition(": ")[2]]
            assert (same.variant, same.num_classes) == (row.variant, row.num_classes)


def test_it_prints_as_a_table_and_is_one_in_a_notebook(run):
    lines = repr(TABLE).splitlines()
    assert len(lines) == 2 + len(TABLE) and run("pretrained") == repr(TABLE) + "\n"
    [line] = [line for line in lines if line.startswith("imagenet1k/Mixer-B_16")]
    assert line.split()[4:-1] == [
        "224",
        "1,000",
        "76.44",
        "82.36",
        "63.22",
        "8.4",
        "34.32",
        "-",
        "25.15",
    ]
    cells, parser = [], HTMLParser()
    parser.handle_data = cells.append
    parser.feed(TABLE._repr_html_())
    assert cells == [cell for row in TABLE.cells() for cell in row]


def test_the_command_refuses_a_pattern_that_matches_nothing(command):
    told = command("pretrained", "jft/*")
    assert told.status == 1 and "no weights have a name like jft/*" in told.err


def test_docs_have_the_same_table():
    page = (ROOT / "docs/reference/weights.md").read_text()
    for row in TABLE:
        name, variant, count, size, _, classes, *rest, about = TABLE.cells()[1 + TABLE.index(row)]
        del variant
        assert f"| `{name}` | {count} | {size} | {classes} | {' | '.join(rest)} | {about} |" in page
