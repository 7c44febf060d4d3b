"""A sweep against the runs that it is made of."""

import argparse
import json
import shutil

import ml_collections
import pytest

from mlp_mixer.analysis import sweep_figure
from mlp_mixer.cli import sweep as command
from mlp_mixer.data import sources
from mlp_mixer.runs import metrics
from mlp_mixer.training import loop, sweep

from ..conftest import load_config, shrink

pytestmark = pytest.mark.slow


def make_config():
    config = shrink(load_config("digits"))
    config.sweep = ml_collections.ConfigDict(
        dict(learning_rates=(1e-6, 0.05), train_split="train[:80%]", dev_split="train[80%:]")
    )
    config.total_steps = 20
    config.eval_every_steps = config.checkpoint_every_steps = 10
    return config


@pytest.fixture
def config():
    return make_config()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished sweep: its folder, its result, and the splits that it opened."""
    folder, opened = tmp_path_factory.mktemp("sweep") / "whole", []

    def spy(spec, split, channels=3):
        opened.append(split)
        return open_source(spec, split, channels)

    open_source = sources.open_source
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "open_source", spy)
        result = sweep.sweep(make_config(), folder)
    return folder, result, opened


def test_a_sweep_chooses_on_dev_and_tests_once(whole):
    folder, result, opened = whole
    assert opened == ["train[:80%]", "train[80%:]"] * 2 + ["train", "test"]
    assert result["lr"] == max(result["dev"], key=result["dev"].get) == 0.05
    tested = [x for x in metrics.read(folder / "full") if "test/accuracy" in x]
    assert [line["step"] for line in tested] == [20]
    assert result["test"]["test/accuracy"] == tested[0]["test/accuracy"]
    assert json.loads((folder / "sweep.json").read_text())["lr"] == 0.05
    table = (folder / "sweep.md").read_text()
    assert "| 0.05 |" in table and "chosen" in table
    lines = sweep_figure.draw(result).axes[0].lines
    assert sorted(lines[0].get_ydata()) == sorted(result["dev"].values())
    assert lines[1].get_xdata() == [0.05]
    # At twice the area of a point, the test's star is seen as one.
    assert lines[1].get_markersize() > 2 * lines[0].get_markersize()


def test_a_sweep_is_drawn_and_says_where_its_weights_are(whole, capsys):
    folder = whole[0]
    command.main(argparse.Namespace(config=make_config(), workdir=str(folder)))
    assert (folder / "sweep.png").stat().st_size
    assert f"weights are in {folder}/full" in capsys.readouterr().out


def test_a_stopped_sweep_resumes_and_ends_with_the_same_result(
    config, whole, tmp_path, monkeypatch
):
    train, calls = loop.train, []

    def stop_at_the_second(config, workdir):
        calls.append(workdir.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        if not workdir.exists():  # the run that it would be, as `whole` has it: only evaluated
            shutil.copytree(whole[0] / workdir.name, workdir)
        return train(config, workdir)

    monkeypatch.setattr(loop, "train", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(config, tmp_path)
    assert sweep.sweep(config, tmp_path) == whole[1]
    assert calls == ["lr_1e-06", "lr_0.05", "lr_0.05", "full"]  # nothing twice that was finished
    assert sweep.sweep(config, tmp_path) == whole[1] and len(calls) == 4


def test_a_larger_grid_trains_what_is_missing_and_tests_once(config, whole, tmp_path, monkeypatch):
    folder = shutil.copytree(whole[0], tmp_path / "larger")
    train, trained = loop.train, []

    def spy(config, workdir):
        trained.append(workdir.name)
        return train(config, workdir)

    monkeypatch.setattr(loop, "train", spy)
    config.sweep.learning_rates = (1e-7, 1e-6, 0.05)
    larger = sweep.sweep(config, folder)
    assert trained == ["lr_1e-07"]
    assert larger["test"] == whole[1]["test"] and set(larger["dev"]) == {1e-7, 1e-6, 0.05}
    config.sweep.learning_rates = (1e-7, 1e-6)  # as if one of these had become the best
    with pytest.raises(ValueError, match=r"full was trained with .* 0\.05, and now 1e-0[67]"):
        sweep.sweep(config, folder)
    assert trained == ["lr_1e-07"]


def test_a_repeated_sweep_still_tells_of_the_averaged_parameters(config, tmp_path):
    config.ema, config.sweep.learning_rates = 0.5, (0.05,)
    first = sweep.sweep(config, tmp_path)
    assert {"test/accuracy", "ema_test/accuracy"} < first["test"].keys()
    assert sweep.sweep(config, tmp_path) == first


def test_a_sweep_with_keep_best_is_refused_before_it_trains(config, tmp_path):
    config.keep_best = "test/accuracy"
    with pytest.raises(ValueError, match="keep_best=test/accuracy is not for a sweep"):
        sweep.sweep(config, tmp_path)
    assert not any(tmp_path.iterdir())


def test_of_equal_accuracies_lower_loss_is_best_then_lower_rate():
    def found(*rows):
        return {lr: {"dev/accuracy": accuracy, "dev/loss": loss} for lr, accuracy, loss in rows}

    assert sweep.best_rate(found((0.1, 0.8, 0.1), (0.2, 0.9, 0.7), (0.3, 0.9, 0.5))) == 0.3
    assert sweep.best_rate(found((0.2, 0.9, 0.5), (0.1, 0.9, 0.5), (0.3, 0.9, 0.6))) == 0.1
    assert sweep.best_rate({0.5: None} | found((0.1, 0.0, 9.0))) == 0.1


def test_a_rate_that_diverges_is_out_and_not_tried_again(config, tmp_path, monkeypatch):
    config.optimizer, config.grad_clip = "momentum", 0.0
    config.sweep.learning_rates = (0.01, 1e6)
    result = sweep.sweep(config, tmp_path)
    assert result["dev"][1e6] is None and result["lr"] == 0.01
    assert "| 1e+06 | diverged | |" in (tmp_path / "sweep.md").read_text().replace("  ", " ")
    assert "not finite" in (tmp_path / "lr_1e+06" / "diverged.txt").read_text()

    monkeypatch.setattr(loop, "train", None)  # not called again
    assert sweep.sweep(config, tmp_path) == result
    config.sweep.learning_rates = (1e6,)
    with pytest.raises(ValueError, match=r"1e\+06.*diverged.*lower"):
        sweep.sweep(config, tmp_path)


def test_a_config_without_a_sweep_is_refused(tiny_config, tmp_path):
    with pytest.raises(ValueError, match=r"no field sweep.*learning_rates"):
        sweep.sweep(tiny_config, tmp_path)


def test_a_sweep_without_all_of_its_fields_is_refused(tmp_path):
    config = make_config()
    del config.sweep["dev_split"]
    with pytest.raises(ValueError, match=r"lacks sweep\.dev_split"):
        sweep.sweep(config, tmp_path)
