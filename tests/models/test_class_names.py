"""Classes are their names: the same ones in another order are mapped, other ones are refused."""

import logging

import numpy as np
import pytest

from mlp_mixer.models import class_names
from mlp_mixer.models.class_names import match, relabel


def test_the_same_names_in_another_order_are_mapped():
    assert match(["a", "b"], ("a", "b"), "A", "B") is None
    order = match(("red", "green", "blue"), ("blue", "green", "red"), "A", "B")
    assert order.tolist() == [2, 1, 0]
    order = match(("a", "b", "c"), ("c", "a", "b"), "A", "B")  # not its own inverse
    assert order.tolist() == [2, 0, 1]


def test_labels_become_numbers_of_the_outputs():
    order = match(("a", "b", "c"), ("c", "a", "b"), "A", "B")
    labels = np.array([0, 1, 2, 0], np.int32)  # c, a, b, c
    assert relabel(labels, order).tolist() == [2, 0, 1, 2]
    assert relabel(labels, order).dtype == np.int32
    multi_hot = np.array([[1, 0, 0], [0, 1, 1]], np.uint8)  # c; a and b
    assert relabel(multi_hot, order).tolist() == [[0, 0, 1], [1, 1, 0]]
    assert relabel(multi_hot, None) is multi_hot


@pytest.mark.parametrize(
    ("have", "want", "words"),
    [
        (("red", "blue"), ("red", "car"), ["'car'", "'blue'", "2 classes"]),
        (("red", "blue"), ("red", "blue", "car"), ["'car'", "3 and 2"]),
        (("a", "a", "b"), ("a", "b", "a"), ["'a'", "more than one"]),
        (("a", "a", "b"), ("a", "b", "b"), ["'a'", "'b'"]),
        (2, ("a", "b", "c"), ["2 classes", "3 classes"]),
    ],
)
def test_other_names_are_refused_with_what_differs(have, want, words):
    with pytest.raises(ValueError) as error:
        match(have, want, "the model", "the data")
    assert all(w in str(error.value) for w in [*words, "the model", "the data"]), error.value


def test_data_of_some_classes_only_is_told_how_to_list_all():
    with pytest.raises(ValueError) as error:
        match(("red", "green", "blue"), ("red",), "runs/x", "folder:y")
    told = str(error.value)
    assert "folder:y has other classes than runs/x: their numbers differ, 1 and 3." in told
    assert "Only runs/x has 'green', 'blue'." in told and "none" not in told
    assert "a classes.txt that lists all 3 names of runs/x" in told
    with pytest.raises(ValueError, match=r"differ, 3 and 1\. Only folder:y has 'green', 'blue'$"):
        match(("red",), ("red", "green", "blue"), "runs/x", "folder:y")


def test_without_known_names_only_the_count_is_compared(caplog):
    caplog.set_level(logging.INFO)
    assert match(3, ("a", "b", "c"), "the model", "the data") is None
    assert "the model does not say what its 3 classes are" in caplog.text


def test_imagenets_ids_and_readable_names_are_the_same_classes():
    ids, names = class_names.imagenet()
    assert len(set(ids)) == 1000 and list(ids) == sorted(ids)
    assert ids[:2] == ("n01440764", "n01443537") and names[:2] == ("tench", "goldfish")
    assert ids[134] == "n02012849" and ids[517] == "n03126707"  # the bird and the machine
    assert names[134] == names[517] == "crane"
    assert match(ids, names, "A", "B") is None and match(names, ids, "A", "B") is None
    shuffled = np.random.default_rng(0).permutation(1000)
    order = match(names, [ids[i] for i in shuffled], "A", "B")
    np.testing.assert_array_equal(order, shuffled)
    some = match(("goldfish", "tench"), ("n01440764", "n01443537"), "A", "B")
    assert some.tolist() == [1, 0]
    with pytest.raises(ValueError, match="n02012849"):  # which of the two it is cannot be known
        match(("crane", "tench"), ("n02012849", "n01440764"), "A", "B")
