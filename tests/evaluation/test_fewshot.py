"""Few-shot accuracy against an independent solver."""

import ml_collections
import numpy as np
import pytest
from sklearn.linear_model import Ridge

import mlp_mixer
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.data.sources import open_source
from mlp_mixer.evaluation import evaluators, fewshot
from mlp_mixer.evaluation.features import Features
from mlp_mixer.models.init import init
from mlp_mixer.runtime.mesh import make_mesh


def by_ridge_regression(features, labels, new, num_classes):
    """Outputs of scikit-learn's solver on the reference's features, standardised and with a 100.

    Its own intercept is off, the constant takes its place.
    """
    mean, deviation = features.mean(0), features.std(0) + 1e-5

    def prepare(x):
        return np.hstack([(x - mean) / deviation, np.full((len(x), 1), 100.0)])

    ridge = Ridge(alpha=1024, fit_intercept=False, solver="svd")
    ridge.fit(prepare(features), 2 * np.eye(num_classes)[labels] - 1)
    return ridge.predict(prepare(new))


@pytest.mark.parametrize("n", [12, 20, 24, 90])  # fewer and more examples than features
def test_the_closed_form_is_the_solution_of_another_solver(n):
    rng = np.random.default_rng(0)
    features, new = rng.normal(3, 2, (n, 20)), rng.normal(3, 2, (500, 20))
    features[:, 7] = new[:, 7] = 0.0  # a feature that is dead
    labels = np.arange(n) % 4
    expected = by_ridge_regression(features, labels, new, 4)
    weights, bias = fewshot.fit(features, labels, 4)
    np.testing.assert_allclose(new @ weights + bias, expected, rtol=0, atol=1e-9)
    assert len(set(expected.argmax(-1).tolist())) == 4
    right = (expected.argmax(-1) == np.arange(500) % 4).mean()
    assert fewshot.accuracy(weights, bias, new, np.arange(500) % 4) == pytest.approx(right)


@pytest.fixture
def digits_features():
    module = mlp_mixer.create(
        num_classes=10, image_size=8, image_channels=1, patch_size=2, num_blocks=1,
        hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=16,
    )  # fmt: skip
    return module, init(module)


def config(**fields):
    fewshot_fields = dict(
        type="fewshot", train_split="train", split="test", source="", enabled=True, shots=(5, 10)
    )
    return ml_collections.ConfigDict(
        dict(
            data=dict(source="digits", skip_broken=False, workers=0),
            evals=dict(few=fewshot_fields | fields),
            batch_size=64, image_channels=1, eval_crop_fraction=1.0,
        )
    )  # fmt: skip


@pytest.mark.slow
def test_random_features_of_digits_learn_from_more_shots(digits_features):
    module, params = digits_features
    made = evaluators.make(config(), module, make_mesh(), "0123456789")
    result = evaluators.run(made, params, step=1)
    assert 0.3 < result["few/5shot"] < result["few/10shot"] < 1

    # The same by hand for one number of shots: images drawn as the authors draw them.
    train, test = open_source("digits", "train", 1), open_source("digits", "test", 1)
    body = {name: value for name, value in params.items() if name != "head"}

    def features(source):
        pixels = np.stack([source[i][0] for i in range(len(source))])
        x = np.float32(pixels) / np.float32(127.5) - 1
        return np.asarray(module.clone(num_classes=0).apply({"params": body}, x))

    x, y, accuracies = features(train), train.labels(), []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        few = np.concatenate([rng.permutation(np.where(y == k)[0])[:5] for k in range(10)])
        scores = by_ridge_regression(np.float64(x[few]), y[few], features(test), 10)
        accuracies.append((scores.argmax(-1) == test.labels()).mean())
    # One example in three draws may lie on a border that float32 features blur.
    assert result["few/5shot"] == pytest.approx(np.mean(accuracies), abs=1.1 / 3 / len(test))


class Counting:
    """A source that notes what is decoded, with one image that is broken."""

    def __init__(self, source, broken):
        self._source, self.broken, self.decoded = source, broken, set()
        self.name, self.class_names = source.name, source.class_names

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        self.decoded.add(index)
        if index in self.broken:
            raise BrokenImage(f"broken image {index}")
        return self._source[index]

    def labels(self):
        return self._source.labels()


def test_only_drawn_images_are_decoded_and_broken_ones_skipped(digits_features):
    module, params = digits_features
    train, test = open_source("digits", "train", 1), open_source("digits", "test[:50]", 1)
    rng, labels = np.random.default_rng(0), train.labels()
    drawn = [rng.permutation(np.where(labels == k)[0])[:2] for k in range(10)]
    broken = int(drawn[3][0])  # of seed 0; its other image stands for class 3

    def run(skip_broken):
        source = Counting(train, {broken})
        features = Features(
            module, make_mesh(), batch_size=16, crop="resize", crop_fraction=1.0,
            skip_broken=skip_broken,
        )  # fmt: skip
        result = fewshot.FewShot(features, source, test, (2,)).run(params)
        assert set(np.concatenate(drawn)) <= source.decoded and len(source.decoded) <= 60
        return result

    assert 0.2 < run(skip_broken=True)["2shot"] < 1
    with pytest.raises(BrokenImage, match=f"broken image {broken}"):
        run(skip_broken=False)


class Turned(Counting):
    """Digits of which class 0 is the digit 1, and class 9 the digit 0."""

    def __getitem__(self, index):
        image, label = self._source[index]
        return image, (label - 1) % 10

    def labels(self):
        return (self._source.labels() - 1) % 10


def test_test_classes_are_matched_to_training_classes_by_name(digits_features):
    module, params = digits_features
    train, test = open_source("digits", "train[:200]", 1), open_source("digits", "test[:50]", 1)

    def result(test):
        features = Features(module, make_mesh(), batch_size=64, crop="resize", crop_fraction=1.0)
        return fewshot.FewShot(features, train, test, (2,)).run(params)["2shot"]

    turned = Turned(test, ())
    turned.class_names = tuple("1234567890")
    assert result(turned) == result(test) > 0.2
    turned.class_names = tuple("123456789x")
    with pytest.raises(ValueError, match=r"digits has other classes than digits.*'x'.*'0'"):
        result(turned)


def test_a_broken_test_image_is_skipped_and_a_broken_class_named(digits_features):
    module, params = digits_features
    train, test = open_source("digits", "train", 1), open_source("digits", "test[:50]", 1)

    def run(broken_train, broken_test):
        features = Features(
            module, make_mesh(), batch_size=16, crop="resize", crop_fraction=1.0,
            skip_broken=True,
        )  # fmt: skip
        sources = Counting(train, broken_train), Counting(test, broken_test)
        return fewshot.FewShot(features, *sources, (1,)).run(params)["1shot"]

    def right(broken):  # of 50 images in three draws
        return round(run(set(), broken) * 3 * (50 - len(broken)))

    # The images that are left are classified as they were: the first one more or less.
    assert 0 <= right(set()) - right({0}) <= 3
    threes = set(np.flatnonzero(train.labels() == 3).tolist())
    with pytest.raises(ValueError, match="drew for the class '3' are broken, at 1 shots"):
        run(threes, set())


def test_more_shots_than_images_are_refused_naming_the_class(digits_features):
    module, _ = digits_features
    with pytest.raises(ValueError, match=r"evals\.few.*has \d+ images to train on, 500 shots"):
        evaluators.make(config(shots=(500,)), module, make_mesh(), "0123456789")
