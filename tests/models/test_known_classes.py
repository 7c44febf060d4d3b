"""The lists of ImageNet's classes have the order of the published heads."""

import hashlib

from mlp_mixer.data.class_files import read_classes
from mlp_mixer.models.known_classes import FOLDER, imagenet, imagenet21k

# Of imagenet21k_wordnet_ids.txt.
AUTHORS_FILE = "66362bdedf36d933382edca5493fc562dcc17128ce36403c9e730a75f48cb2f2"


def test_imagenet21k_has_the_order_of_the_authors_list():
    ids, names = imagenet21k()
    assert len(ids) == len(set(ids)) == len(names) == 21_843
    text = "".join(f"{i}\n" for i in ids)
    assert hashlib.sha256(text.encode()).hexdigest() == AUTHORS_FILE
    # Places that others found independently; `known_classes` says who.
    assert (ids[9205], ids[15027]) == ("n03931044", "n09859684")
    assert names[2037] == "sea swallow" and names[0] == "organism" and names[9205] == "picture"


def test_imagenet_has_the_order_of_ilsvrc_2012_and_lies_in_21k():
    ids, names = imagenet()
    assert len(ids) == len(names) == 1000 and list(ids) == sorted(set(ids))
    assert (ids[0], names[0], names[207], names[999]) == (
        "n01440764", "tench", "golden retriever", "toilet tissue",
    )  # fmt: skip
    name_of = dict(zip(*imagenet21k(), strict=True))
    assert [i for i in ids if i not in name_of] == ["n04399382"] == [ids[850]]
    assert all(name_of.get(i, "teddy") == name for i, name in zip(ids, names, strict=True))


def test_the_lists_serve_as_the_classes_of_a_folder():
    assert read_classes(FOLDER / "imagenet21k_classes.tsv") == imagenet21k()
    assert read_classes(FOLDER / "imagenet_classes.tsv") == imagenet()
