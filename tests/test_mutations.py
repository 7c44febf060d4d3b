"""The list of benchmarks/mutations.py fits the code as it is; the script itself takes half an hour.

Where a line of the list has changed, change its mutation with it, and see by `--only` that the
tests notice the new one.
"""

import re

import pytest

from benchmarks import mutations
from benchmarks.mutation_list import MUTATIONS

from .conftest import ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.breaks)
def test_a_mutation_is_of_a_line_that_there_is_and_has_tests(mutation):
    assert mutations.misfit(mutation) == ""
    assert mutation.new != mutation.old
    if mutation.file.endswith(".py"):
        path = ROOT / mutation.file
        compile(path.read_text().replace(mutation.old, mutation.new), path, "exec")
    paths, _, words = mutation.tests.partition(" -k ")
    names = re.findall(r"def (test_\w+)", "".join((ROOT / p).read_text() for p in paths.split()))
    assert [name for name in names if words in name]


def test_there_are_mutations_of_all_rooms_and_none_twice():
    assert len({(m.file, m.old, m.new) for m in MUTATIONS}) == len(MUTATIONS) >= 60
    listed = {m.file.split("/")[1] for m in MUTATIONS if m.file.startswith("mlp_mixer/")}
    folders = {path.parent.name for path in (ROOT / "mlp_mixer").glob("*/__init__.py")}
    assert folders <= listed
    assert any(m.file.startswith("configs/") for m in MUTATIONS)
