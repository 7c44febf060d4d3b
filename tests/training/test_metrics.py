"""What a run tells of itself: means, speed and time left, TensorBoard's events, and the profile."""

import struct
from collections.abc import Iterator

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


def events(folder) -> Iterator[event_pb2.Event]:
    """All of TensorBoard's events in a folder, by the format's definition.

    A record is its length (8 bytes), a checksum (4), an Event, and another checksum.
    """
    for path in sorted(folder.rglob("*tfevents*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            yield event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
            place += 12 + length + 4


def test_scalars_are_in_the_lines_and_in_tensorboards_events(tmp_path):
    writer = metrics.Writer(tmp_path, start=0)
    writer.scalars(2, {"train/loss": 0.5, "train/lr": 0.25})
    writer.scalars(4, {"test/accuracy": 0.75})
    writer.close()
    assert metrics.read(tmp_path) == [
        {"step": 2, "train/loss": 0.5, "train/lr": 0.25},
        {"step": 4, "test/accuracy": 0.75},
    ]
    assert shown_events(tmp_path) == [
        (2, "train/loss", 0.5), (2, "train/lr", 0.25), (4, "test/accuracy", 0.75),
    ]  # fmt: skip


def test_what_is_due_of_a_step_is_told_when_that_step_is_saved_and_not_told_again():
    meter = metrics.Meter(batch_size=8, total_steps=7, log_every=2)
    told = {}
    for step in range(1, 8):
        if report := meter.add(step, {"loss": float(step)}):
            told[step - 1] = report["loss"]
        if step in (3, 4, 7) and (report := meter.flush(step)):  # saved then
            told[step] = report["loss"]
    assert told == {2: 1.5, 4: 3.5, 6: 5.5, 7: 7.0}  # the last step, too: the run ends with it
    assert meter.finish(7) is None


def shown_events(folder) -> list[tuple[int, str, float]]:
    """What TensorBoard shows: a start drops what earlier files say of its step and later ones."""
    shown = []
    for event in events(folder):
        if event.session_log.status == event_pb2.SessionLog.START:
            shown = [x for x in shown if x[0] < event.step]
        shown += [(event.step, x.tag, x.simple_value) for x in event.summary.value]
    return shown


def test_after_a_kill_each_scalar_of_each_step_is_in_both_files_once(tmp_path):
    killed = metrics.Writer(tmp_path, 0)  # never closed
    killed.scalars(1, {"train/loss": 0.75})
    killed.scalars(2, {"train/loss": 0.5})
    assert shown_events(tmp_path) == [(1, "train/loss", 0.75), (2, "train/loss", 0.5)]
    killed.scalars(3, {"train/loss": 8.0})
    # The kill came between the two files, and cut the last line short.
    with (tmp_path / metrics.FILE).open("a") as file:
        file.write('{"step": 2, "test/loss": 0.25}\n{"step": 3, "test/lo')
    again = metrics.Writer(tmp_path, 2)
    again.scalars(2, {"test/loss": 0.25})  # as it is already
    again.scalars(3, {"train/loss": 0.125})
    again.close()
    wanted = [(1, "train/loss", 0.75), (2, "train/loss", 0.5), (2, "test/loss", 0.25),
              (3, "train/loss", 0.125)]  # fmt: skip
    assert shown_events(tmp_path) == wanted
    lines = metrics.read(tmp_path)
    assert [(x["step"], n, x[n]) for x in lines for n in x if n != "step"] == wanted


def test_a_run_that_was_killed_before_its_first_checkpoint_leaves_no_events(tmp_path):
    metrics.Writer(tmp_path, 0).scalars(1, {"train/loss": 8.0})
    next(tmp_path.glob("events*")).rename(tmp_path / "events.out.tfevents.0000000001.host")
    metrics.Writer(tmp_path, 0).scalars(1, {"train/loss": 0.5})
    assert shown_events(tmp_path) == [(1, "train/loss", 0.5)]


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
