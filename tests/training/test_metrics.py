"""What a run tells of itself: means, speed and time left, TensorBoard's events, and the profile."""

import struct

import jax
import pytest
from tensorboardX.proto import event_pb2

from mlp_mixer.training import metrics


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what is added to it."""
    clock = [1000.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: clock[0])
    return clock


def test_a_report_is_of_all_steps_since_the_last_and_tells_speed_and_time_left(clock):
    devices = jax.device_count()
    meter = metrics.Meter(batch_size=64 * devices, total_steps=20, log_every=4)
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


def read_events(folder) -> list[tuple[int, str, float]]:
    """(step, name, value) of all of TensorBoard's events in a folder, by the format's definition.

    A record is its length (8 bytes), a checksum (4), an Event, and another checksum.
    """
    found = []
    for path in sorted(folder.rglob("*tfevents*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
            found += [(event.step, x.tag, x.simple_value) for x in event.summary.value]
            place += 12 + length + 4
    return found


def test_scalars_are_in_the_lines_and_in_tensorboards_events(tmp_path):
    writer = metrics.Writer(tmp_path, start=0)
    writer.scalars(2, {"train/loss": 0.5, "train/lr": 0.25})
    writer.scalars(4, {"test/accuracy": 0.75})
    writer.close()
    assert metrics.read(tmp_path) == [
        {"step": 2, "train/loss": 0.5, "train/lr": 0.25},
        {"step": 4, "test/accuracy": 0.75},
    ]
    assert sorted(read_events(tmp_path)) == [
        (2, "train/loss", 0.5), (2, "train/lr", 0.25), (4, "test/accuracy", 0.75),
    ]  # fmt: skip


@pytest.mark.parametrize(("steps", "recorded"), [(0, []), (3, [("start", 15), ("stop", 18)])])
def test_a_profile_is_taken_of_the_steps_after_the_first_ten(
    steps, recorded, tmp_path, monkeypatch
):
    found, now = [], [0]
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: found.append(("start", now[0])))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: found.append(("stop", now[0])))
    with metrics.Profile(tmp_path, start=5, steps=steps) as profile:
        for now[0] in range(6, 30):
            profile.after(now[0])
    assert found == recorded


def test_a_profile_ends_with_the_run(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: found.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: found.append("stop"))
    with metrics.Profile(tmp_path, start=0, steps=100) as profile:
        profile.after(10)
    assert found == ["start", "stop"]
