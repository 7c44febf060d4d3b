"""Few-shot accuracy against an independent solver."""

import jax
import ml_collections
import numpy as np
import pytest
from sklearn.linear_model import Ridge

import mlp_mixer
from mlp_mixer.data.sources import open_source
from mlp_mixer.evaluation import evaluators, fewshot
from mlp_mixer.models import mixer
from mlp_mixer.training import parallel


@pytest.mark.parametrize("n", [12, 90])  # fewer and more examples than features
def test_the_closed_form_is_the_solution_of_another_solver(n):
    rng = np.random.default_rng(0)
    features, new = rng.normal(3, 2, (n, 20)), rng.normal(3, 2, (500, 20))
    labels = np.arange(n) % 4
    # Ridge regression on the same features; its own intercept is off, the constant takes its place.
    mean, deviation = features.mean(0), features.std(0) + 1e-5

    def prepare(x):
        return np.hstack([(x - mean) / deviation, np.full((len(x), 1), 100.0)])

    ridge = Ridge(alpha=1024, fit_intercept=False, solver="cholesky", tol=1e-12)
    ridge.fit(prepare(features), 2 * np.eye(4)[labels] - 1)
    expected = ridge.predict(prepare(new)).argmax(-1)
    assert len(set(expected.tolist())) == 4
    np.testing.assert_array_equal(fewshot.fit(features, labels, 4)(new), expected)


@pytest.fixture
def digits_features():
    module = mlp_mixer.create(
        num_classes=10, image_size=8, image_channels=1, patch_size=2, num_blocks=1,
        hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=16,
    )  # fmt: skip
    return module, mixer.init(module)


def config(**fields):
    fewshot_fields = dict(
        type="fewshot", train_split="train", split="test", source="", enabled=True, shots=(5, 10)
    )
    return ml_collections.ConfigDict(
        dict(
            data=dict(source="digits"), evals=dict(few=fewshot_fields | fields), batch_size=64,
            image_channels=1, eval_crop_fraction=1.0,
        )
    )  # fmt: skip


def test_random_features_of_digits_learn_from_more_shots(digits_features):
    module, params = digits_features
    made = evaluators.make(config(), module, parallel.make_mesh())
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
        predict = fewshot.fit(x[few], y[few], 10)
        accuracies.append((predict(features(test)) == test.labels()).mean())
    assert result["few/5shot"] == pytest.approx(np.mean(accuracies), abs=1.5 / len(test))


def test_more_shots_than_images_are_refused_naming_the_class(digits_features):
    module, _ = digits_features
    with pytest.raises(ValueError, match=r"evals\.few.*has \d+ images to train on, 500 shots"):
        evaluators.make(config(shots=(500,)), module, parallel.make_mesh())


def test_a_failing_evaluator_says_which_it_is_and_when(digits_features):
    module, params = digits_features
    made = evaluators.make(config(), module, parallel.make_mesh())
    broken = jax.tree.map(lambda x: x[:1], params)
    with pytest.raises(ValueError, match="evaluator 'few' failed at step 7"):
        evaluators.run(made, broken, step=7)
    with pytest.raises(ValueError, match=r"config\.evals\.few: unknown type 'guess'.*fewshot"):
        evaluators.make(config(type="guess"), module, parallel.make_mesh())
