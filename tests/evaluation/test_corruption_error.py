"""CE, mCE and relative mCE of ImageNet-C."""

import pytest

from mlp_mixer.data.corruptions import COUNTED, EXTRA
from mlp_mixer.evaluation.corruption_error import ALEXNET, ALEXNET_CLEAN, Corrupted

# Steps of accuracy over the five severities that leave the mean as it is.
SPREAD = {1: 0.10, 2: 0.05, 3: 0.0, 4: -0.05, 5: -0.10}


def table(errors):
    return {
        name: {severity: 1 - error + step for severity, step in SPREAD.items()}
        for name, error in errors.items()
    }


def test_alexnets_errors_make_an_mce_of_100_per_cent():
    alexnet = Corrupted(table(ALEXNET))
    assert alexnet.mce() == pytest.approx(1) and set(alexnet.ce()) == set(COUNTED)
    assert alexnet.relative_mce(1 - ALEXNET_CLEAN) == pytest.approx(1)


def test_mce_of_a_table_worked_by_hand():
    """Error 0.5 everywhere: the mean of 0.5 / AlexNet's, and of 0.2 / (AlexNet's - 0.4348)."""
    half = Corrupted(table(dict.fromkeys(ALEXNET, 0.5)))
    ces = {name: round(100 * ce, 2) for name, ce in half.ce().items()}
    assert ces["gaussian_noise"] == 56.41 and ces["brightness"] == 88.56  # 50 / .886428, / .564592
    assert 100 * half.mce() == pytest.approx(64.6726, abs=1e-4)
    assert 100 * half.relative_mce(0.7) == pytest.approx(65.1234, abs=1e-4)
    assert half.mean() == pytest.approx(0.5)


def test_the_four_extra_corruptions_do_not_count():
    alone = Corrupted(table(ALEXNET))
    more = Corrupted(table(ALEXNET | dict.fromkeys(EXTRA, 0.01)))
    assert (more.mean(), more.mce(), more.ce()) == (alone.mean(), alone.mce(), alone.ce())
    assert more.means()["saturate"] == pytest.approx(0.99)
    assert len(COUNTED) == 15 and not set(COUNTED) & set(EXTRA)


def test_means_over_fewer_than_15_corruptions_are_not_given():
    accuracy = table({name: 0.5 for name in ALEXNET if name != "snow"})
    del accuracy["fog"][2], accuracy["fog"][3]
    some = Corrupted(accuracy)
    assert some.missing == ["snow", "fog 2, 3"]
    assert some.mean() is some.mce() is some.relative_mce(0.7) is None
    assert "fog" not in some.ce() and len(some.ce()) == 13


def test_other_classes_than_imagenets_have_no_baseline():
    cifar = Corrupted(table(ALEXNET), of_imagenet=False)
    assert cifar.ce() == {} and cifar.mce() is None and cifar.relative_mce(0.9) is None
    assert cifar.mean() is not None
