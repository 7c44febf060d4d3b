"""The sheet of predictions that TensorBoard gets when a run ends, and the sample it is made of."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

import mlp_mixer
from mlp_mixer.analysis import sheet
from mlp_mixer.data.sources import open_source, spread
from mlp_mixer.runs.folder import is_finished

from ..runs.test_metrics import events

pytestmark = pytest.mark.slow


def pictures(workdir):
    """(tag, step, size as stated, picture) of each picture among TensorBoard's events."""
    return [
        (value.tag, event.step, (value.image.width, value.image.height),
         Image.open(io.BytesIO(value.image.encoded_image_string)))
        for event in events(workdir)
        for value in event.summary.value
        if value.HasField("image")
    ]  # fmt: skip


def test_tensorboard_gets_a_sheet_of_predictions_at_the_end(tiny_config, tmp_path):
    tiny_config.sheet_examples = 20
    mlp_mixer.train(tiny_config, tmp_path)
    [(tag, step, size, picture)] = pictures(tmp_path)
    assert (tag, step) == ("predictions", 6) and picture.size == size
    pixels = np.asarray(picture.convert("RGB"), int)
    red = (pixels[..., 0] > 150) & (pixels[..., 1:] < 60).all(-1)  # frames of errors
    assert red.mean() > 0.01 and pixels.mean() < 250


def test_a_sheet_that_fails_costs_nothing(tiny_config, tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("no fonts here")

    monkeypatch.setattr(sheet, "evaluate", broken)
    tiny_config.sheet_examples = 20
    with caplog.at_level(logging.WARNING):
        assert mlp_mixer.train(tiny_config, tmp_path).is_finished
    assert "no sheet of predictions (RuntimeError: no fonts here)" in caplog.text
    assert is_finished(tmp_path) and not pictures(tmp_path)


def test_a_run_may_do_without_a_sheet(finished):
    assert not pictures(finished.workdir)  # its config says 0


def test_a_sample_is_spread_over_the_data_and_right(finished):
    whole, sample = (mlp_mixer.evaluate(finished.workdir, examples=n) for n in (None, 50))
    chosen = np.array([k * whole.examples // 50 for k in range(50)])
    assert sample.examples == 50
    right = whole.predictions.guesses == whole.predictions.labels
    assert sample.accuracy == pytest.approx(right[chosen].mean())
    np.testing.assert_array_equal(sample.view(7), whole.view(int(chosen[7])))
    assert mlp_mixer.evaluate(finished.workdir, examples=10**6).examples == whole.examples


def test_a_sample_of_nothing_is_refused():
    with pytest.raises(ValueError, match="examples=0; give a whole number from 1 on"):
        spread(open_source("digits", "test"), 0)
