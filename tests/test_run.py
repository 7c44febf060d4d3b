"""The public interface to runs: what is taken in place of a workdir or of a config."""

import os

import jax
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.training import loop
from mlp_mixer.weights import files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workdir(finished):
    return str(finished.workdir)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_is_taken_wherever_its_workdir_is(workdir, finished, tmp_path):
    run = mlp_mixer.Run(workdir)
    assert os.fspath(run) == workdir
    same(mlp_mixer.load(run), mlp_mixer.load(workdir))
    assert mlp_mixer.load_classifier(run).class_names == tuple("0123456789")
    assert len(mlp_mixer.filters(run).axes) == 2
    with files.open_weights(run) as opened:
        assert opened.name == workdir and files.is_here(run)
    assert mlp_mixer.inspect(run) == mlp_mixer.inspect(workdir)
    figure = mlp_mixer.curves([finished.copy(tmp_path / "other"), run])
    assert [text.get_text() for text in figure.legends[0].texts][:2] == ["other", "run"]
    assert mlp_mixer.evaluate(run).accuracy == finished.result["test/accuracy"]
    assert mlp_mixer.report(run, evaluated=False).workdirs == (workdir,)
    mlp_mixer.convert(run, tmp_path / "x.npz")
    told = mlp_mixer.inspect(tmp_path / "x.npz").facts
    assert any(fact.startswith(f"{workdir} (sha256") for _, fact in told)


def test_messages_about_a_run_name_its_workdir(workdir, tmp_path):
    run = mlp_mixer.Run(workdir)
    for call in (
        lambda: mlp_mixer.load(run, like=mlp_mixer.create("S/32", num_classes=10)),
        lambda: mlp_mixer.evaluate(run, "digits:place"),
        lambda: mlp_mixer.permutation(run, "x/y"),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert workdir in str(error.value) and "Run(" not in str(error.value)


def test_permutation_takes_one_workdir_as_a_list_of_one(workdir):
    one = mlp_mixer.permutation(workdir, "test/accuracy")
    assert one == mlp_mixer.permutation([workdir], "test/accuracy")
    assert list(one.points) == [("mixer", "original")]


def test_few_shot_takes_one_number_of_shots(workdir):
    one = mlp_mixer.few_shot(workdir, "digits", "test[:50]", shots=5)
    assert one == mlp_mixer.few_shot(workdir, "digits", "test[:50]", shots=(5,))
    assert list(one.accuracy) == ["5shot"]


def test_train_takes_the_name_of_a_config(workdir, monkeypatch):
    started = []
    monkeypatch.setattr(loop, "train", lambda config, *_: started.append(config.to_dict()))
    mlp_mixer.train("digits", workdir)
    mlp_mixer.train(mlp_mixer.config("digits"), workdir)
    assert started[0] == started[1]
    with pytest.raises(ValueError, match="there is no config digit; did you mean digits"):
        mlp_mixer.train("digit", workdir)
    with pytest.raises(TypeError, match=r"the config is a dict; .*mlp_mixer\.config\(\.\.\.\)"):
        mlp_mixer.train({"lr": 0.1}, workdir)
    assert len(started) == 2
