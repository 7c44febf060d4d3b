"""Numbers of classes and examples that are known without the data."""

import pytest

from mlp_mixer.data import known_sizes, vtab
from mlp_mixer.data.sources import open_source


def test_imagenets_training_part_is_as_large_as_the_authors_say():
    # big_vision's mlp_mixer_i1k.py trains on train[:99%], 1,268,355 images.
    assert known_sizes.classes_and_examples("tfds:imagenet2012", "train[:99%]") == (1000, 1_268_355)
    assert known_sizes.classes_and_examples("tfds:imagenet2012:5.*.*", "train[99%:]") == (
        1000,
        12_812,
    )
    assert known_sizes.classes_and_examples("folder:/x/imagenet21k", "train[51200:]") == (
        21_843, 14_197_122 - 51_200,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", sorted(set(known_sizes.DATA_SETS) - {"imagenet21k", "jft", "digits"})
)
def test_classes_are_those_that_tfds_has(name, tmp_path):
    import tensorflow_datasets as tfds

    features = tfds.builder(name, data_dir=tmp_path).info.features
    keys = [key for key in ("label", "real_label", "label_category") if key in features]
    if not keys:  # a label is made of something else: see vtab.TASKS
        assert name in {task.dataset for task in vtab.TASKS.values()}
        return
    feature = features[keys[0]]
    names = feature.feature.names if keys[0] == "real_label" else feature.names
    assert known_sizes.classes_and_examples(
        f"tfds:{name}", next(iter(known_sizes.DATA_SETS[name][1]))
    )[0] == (len(names))


@pytest.mark.parametrize("task", vtab.TASKS)
def test_vtab_has_a_thousand_examples_and_a_whole_test_split(task):
    classes, examples = known_sizes.classes_and_examples(
        f"vtab:{task}", f"train[:800]+{_dev(task)}"
    )
    assert examples == 1000 and classes > 1
    assert known_sizes.classes_and_examples(f"vtab:{task}", vtab.TASKS[task].test)[1] > 0


def _dev(task: str) -> str:
    return vtab.TASKS[task].dev


@pytest.mark.parametrize("spec", ["digits", "digits:place"])
@pytest.mark.parametrize("split", ["train", "test[:25%]", "train[-5:]"])
def test_what_is_known_agrees_with_the_data(spec, split):
    source = open_source(spec, split, 1)
    expected = (len(source.class_names), len(source))
    assert known_sizes.classes_and_examples(spec, split) == expected


def test_what_is_not_known_is_asked_for():
    with pytest.raises(ValueError, match="folder:cats are not known here: give them"):
        known_sizes.classes_and_examples("folder:cats", "train")
    with pytest.raises(ValueError, match=r"no split 'validation'.*train, test"):
        known_sizes.classes_and_examples("tfds:cifar10", "validation")
