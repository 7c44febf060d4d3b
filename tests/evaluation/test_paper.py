"""Table 3 of the paper, and the model's row beside it."""

import re

import pytest

from mlp_mixer.evaluation import paper

from ..conftest import SHARED


def test_table_3_is_the_papers():
    """Against a transcript that was made independently of the module."""
    path = SHARED / "reference" / "mixer_paper.md"
    if not path.exists():
        pytest.skip("../shared/reference/mixer_paper.md is not here")
    lines = path.read_text().partition("### 2.2 Table 3")[2].partition("\n### ")[0].splitlines()
    rows, data = [], ""
    for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines):
        if cells[0].startswith("*"):
            data = re.match(r"\*([\w-]+)", cells[0])[1]
        elif re.match(r"(Mixer|ViT|BiT)-", cells[0]) and len(cells) == 8:
            numbers = [None if c == "–" else float(c.rstrip("‡")) for c in cells[1:]]
            rows.append(paper.Row(cells[0].split()[0], data, *numbers))
    assert len(rows) == 26 and tuple(rows) == paper.TABLE_3


def test_published_rows_are_found_by_model_size_and_pretraining():
    assert [row.data for row in paper.published("Mixer-B/16", 224)] == list(paper.DATA)
    (row,) = paper.published("Mixer-L/16", 448, "ImageNet-21k")
    assert (row.imagenet, row.throughput) == (83.91, 105)
    assert paper.published("Mixer-S/8", 224) == []
