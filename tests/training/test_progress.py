"""What is told of a run while it trains: means, speed and time left, and the profile."""

import logging
import time

import jax
import pytest

from mlp_mixer.training import heartbeat, progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what is added to it."""
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    return clock


def test_a_report_covers_all_steps_since_the_last_one(clock):
    devices = jax.device_count()
    meter = progress.Meter(batch_size=64 * devices, total_steps=20, log_every=4)
    reports = {}
    for step in range(1, 10):
        clock[0] += 0.5  # seconds of training
        if step == 6:
            clock[0] += 100
            meter.pause(100.0)  # of an evaluation
        if report := meter.add(step, {"loss": float(step), "accuracy": step / 10}):
            reports[step - 1] = report
    assert list(reports) == [4, 8]
    assert reports[4]["loss"] == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert reports[8]["loss"] == pytest.approx((5 + 6 + 7 + 8) / 4)
    assert reports[8]["accuracy"] == pytest.approx(0.65)
    # The second report is of four steps of half a second: 64 images on each device every 0.5 s.
    assert reports[8]["images_per_second_per_device"] == pytest.approx(128)
    assert reports[8]["seconds_left"] == pytest.approx((20 - 8) * 0.5)


def test_the_first_step_is_told_when_it_is_done(clock, caplog):
    caplog.set_level(logging.INFO)
    devices = jax.device_count()
    meter = progress.Meter(batch_size=8 * devices, total_steps=20, log_every=2)
    clock[0] += 30
    meter.compiled(28.0)
    assert meter.newest() == "the first step, for 30 s so far"
    meter.add(11, {"loss": 1.0})  # of a run that goes on; still computed
    assert not caplog.messages
    clock[0] += 4
    meter.add(12, {"loss": 2.0})
    assert caplog.messages == ["step 11/20 is done: it took 4.0 s, after 28.0 s of compiling"]
    clock[0] += 4
    report = meter.flush(12)
    assert len(caplog.messages) == 1
    assert report["images_per_second_per_device"] == pytest.approx(2)  # of steps, not of compiling
    clock[0] += 9
    assert meter.newest() == "step 12/20  loss 2.0000  9 s ago"


def test_a_minute_without_a_line_gets_one(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(heartbeat, "SECONDS", 0.2)
    with heartbeat.Heartbeat() as beat:
        beat.doing("compiling")
        while not caplog.messages:
            time.sleep(0.01)
        assert caplog.messages == ["compiling, for 0 s so far"]
        beat.training(lambda: "step 1/9")
        ended = time.monotonic() + 0.6
        while time.monotonic() < ended:
            beat.told()  # there are other lines
        assert "step 1/9" not in caplog.messages
        while caplog.messages[1:] != ["step 1/9", "step 1/9"]:
            time.sleep(0.01)
    time.sleep(0.3)
    assert len(caplog.messages) == 3  # none after the run


def test_what_is_due_is_reported_once_when_its_step_is_saved():
    meter = progress.Meter(batch_size=8, total_steps=7, log_every=2)
    told = {}
    for step in range(1, 8):
        if report := meter.add(step, {"loss": float(step)}):
            told[step - 1] = report["loss"]
        if step in (3, 4, 7) and (report := meter.flush(step)):  # saved then
            told[step] = report["loss"]
    assert told == {2: 1.5, 4: 3.5, 6: 5.5, 7: 7.0}  # the last step, too: the run ends with it
    assert meter.finish(7) is None


@pytest.mark.parametrize(("steps", "recorded"), [(0, []), (3, [("start", 15), ("stop", 18)])])
def test_a_profile_is_taken_of_the_steps_after_the_first_ten(
    steps, recorded, tmp_path, monkeypatch
):
    found, now = [], [0]
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: found.append(("start", now[0])))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: found.append(("stop", now[0])))
    with progress.Profile(tmp_path, start=5, steps=steps) as profile:
        for now[0] in range(6, 30):
            profile.after(now[0])
    assert found == recorded


def test_a_profile_ends_with_the_run(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: found.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: found.append("stop"))
    with progress.Profile(tmp_path, start=0, steps=100) as profile:
        profile.after(10)
    assert found == ["start", "stop"]
