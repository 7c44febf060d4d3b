"""A sweep against the runs that it is made of."""

import json

import ml_collections
import pytest

from mlp_mixer.data import sources
from mlp_mixer.training import loop, metrics, sweep


@pytest.fixture
def config(tiny_config):
    tiny_config.sweep = ml_collections.ConfigDict(
        dict(learning_rates=(1e-6, 0.05), train_split="train[:80%]", dev_split="train[80%:]")
    )
    tiny_config.total_steps = 30
    return tiny_config


def test_a_sweep_chooses_on_dev_and_tests_once(config, tmp_path, monkeypatch):
    opened = []

    def spy(spec, split, channels=3):
        opened.append(split)
        return open_source(spec, split, channels)

    open_source = sources.open_source
    monkeypatch.setattr(sources, "open_source", spy)
    result = sweep.sweep(config, tmp_path)
    assert opened == ["train[:80%]", "train[80%:]"] * 2 + ["train", "test"]
    assert result["lr"] == max(result["dev"], key=result["dev"].get) == 0.05
    tested = [x for x in metrics.read(tmp_path / "full") if "test/accuracy" in x]
    assert [line["step"] for line in tested] == [30]
    assert result["test"]["test/accuracy"] == tested[0]["test/accuracy"]
    assert json.loads((tmp_path / "sweep.json").read_text())["lr"] == 0.05
    table = (tmp_path / "sweep.md").read_text()
    assert "| 0.05 |" in table and "chosen" in table


def test_a_sweep_that_is_stopped_goes_on_and_ends_with_the_same_result(
    config, tmp_path, monkeypatch
):
    whole = sweep.sweep(config, tmp_path / "whole")
    train, calls = loop.train, []

    def stop_at_the_second(config, workdir):
        calls.append(workdir.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(config, workdir)

    monkeypatch.setattr(loop, "train", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(config, tmp_path / "parts")
    assert sweep.sweep(config, tmp_path / "parts") == whole
    assert calls == ["lr_1e-06", "lr_0.05", "lr_0.05", "full"]  # nothing twice that was finished
    assert sweep.sweep(config, tmp_path / "parts") == whole and len(calls) == 4


def test_a_config_without_a_sweep_is_refused(tiny_config, tmp_path):
    with pytest.raises(ValueError, match=r"no field sweep.*learning_rates"):
        sweep.sweep(tiny_config, tmp_path)
