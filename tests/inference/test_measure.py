"""What a model takes examples for: confusion, accuracy by class, and which errors are shown."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, recall_score

from mlp_mixer.inference.measure import Predictions

RNG = np.random.default_rng(0)
LABELS, GUESSES = RNG.integers(0, 4, 50), RNG.integers(0, 4, 50)
FOUND = Predictions(tuple("abcd"), LABELS, GUESSES, RNG.random(50), np.arange(50))


def test_the_confusion_matrix_is_that_of_scikit_learn():
    np.testing.assert_array_equal(FOUND.confusion(), confusion_matrix(LABELS, GUESSES))


def test_the_accuracy_of_a_class_is_its_recall():
    shares = recall_score(LABELS, GUESSES, average=None)
    for (name, (share, count)), i in zip(FOUND.per_class().items(), range(4), strict=True):
        assert name == "abcd"[i]
        assert count == np.count_nonzero(i == LABELS)
        assert share == pytest.approx(shares[i])


def test_a_class_without_examples_has_no_accuracy():
    few = FOUND.__class__(tuple("abcde"), LABELS, GUESSES, FOUND.confidences, FOUND.indices)
    assert set(few.per_class()) == set("abcd") and few.confusion().shape == (5, 5)


def test_errors_of_all_classes_are_shown_most_confident_first():
    labels = np.array([0, 0, 0, 0, 1, 2, 2])  # in the order of classes, as folders are read
    guesses = np.array([1, 1, 1, 0, 0, 0, 2])
    confidences = np.array([0.5, 0.9, 0.7, 0.9, 0.4, 0.8, 0.9])
    found = Predictions(tuple("abc"), labels, guesses, confidences, np.arange(7))
    assert found.errors(3).tolist() == [1, 5, 4]  # one of each class, by confidence
    assert found.errors(10).tolist() == [1, 5, 4, 2, 0]
    assert found.right(10).tolist() == [3, 6]
