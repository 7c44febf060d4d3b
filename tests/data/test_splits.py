"""Parts of a split are those of TFDS, for every source, and what TFDS refuses is refused."""

import itertools

import pytest

from mlp_mixer.data import known_sizes, splits
from mlp_mixer.data.sources import open_source
from tests.data.conftest import png

ENDS = ("", "0", "7", "-7", "100", "-100", "101", "-101", "25%", "-25%", "99.5%", "100%", "-100%",
        "101%", "150%", "-150%")  # fmt: skip


@pytest.mark.parametrize("count", [1, 7, 100, 1437, 1_281_167])
def test_parts_are_those_that_tfds_cuts(count):
    from tensorflow_datasets.core import splits as tfds

    counts = {"train": tfds.SplitInfo(
        name="train", shard_lengths=[count], num_bytes=0, filename_template=None
    )}  # fmt: skip
    for start, stop in itertools.product(ENDS, ENDS):
        units = {end.endswith("%") for end in (start, stop) if end not in ("", "0")}
        text = f"train[{start}:{stop}]"
        if len(units) > 1:  # TFDS takes 10:50% for 10%:50%
            with pytest.raises(ValueError, match="mixes"):
                splits.parse(text)
            continue
        if not (start or stop):
            continue
        try:
            (cut,) = tfds.AbstractSplit.from_spec(text).to_absolute(counts)
            want = range(count)[cut.from_ : cut.to]
        except ValueError:
            want = range(0)
        if want:
            assert splits.parse(text).of(count, "x") == want, text
        else:
            with pytest.raises(ValueError, match=r"reaches beyond|is empty"):
                splits.parse(text).of(count, "x")


@pytest.mark.parametrize("split", ["train[:150%]", "train[500:]", "train[-150%:]", "train[5:5]"])
def test_a_part_that_is_not_there_is_refused_by_every_source(split, tmp_path, write_data_set):
    (tmp_path / "data" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "train" / "cat" / "a.png").write_bytes(png(1))
    write_data_set("cifar10", {"train": [{"image": png(1), "label": 1, "id": "a"}] * 4}, shards=1)
    words = r"(reaches beyond|is empty|\[-100, 100\]|incompatible)"
    for spec in (f"folder:{tmp_path / 'data'}", "tfds:cifar10"):
        with pytest.raises(ValueError, match=words) as error:
            open_source(spec, split)
        assert split in str(error.value) and spec in str(error.value)
    split = split.replace("500", "60000")
    with pytest.raises(ValueError, match=words):
        known_sizes.classes_and_examples("tfds:cifar10", split)
    with pytest.raises(ValueError, match=words):
        open_source("digits", split)
