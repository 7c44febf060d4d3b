"""What a run keeps of its scalars: lines in metrics.jsonl, and TensorBoard's events."""

import struct
import time
from collections.abc import Iterator

from tensorboardX.proto import event_pb2

from mlp_mixer.runs import metrics


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


def test_tensorboard_gets_texts_and_the_time_of_each_event(tmp_path):
    began = time.time()
    writer = metrics.Writer(tmp_path, start=0)
    writer.text("config", '    {"lr": 0.5}')
    writer.scalars(1, {"train/loss": 0.5})
    writer.close()
    assert all(began <= event.wall_time <= time.time() for event in events(tmp_path))
    [value] = [x for e in events(tmp_path) for x in e.summary.value if x.HasField("tensor")]
    assert value.tag == "config/text_summary" and value.metadata.plugin_data.plugin_name == "text"
    assert value.tensor.string_val == [b'    {"lr": 0.5}']
    assert metrics.read(tmp_path) == [{"step": 1, "train/loss": 0.5}]


def shown_events(folder) -> list[tuple[int, str, float]]:
    """What TensorBoard shows: a start drops what earlier files say of its step and later ones."""
    shown = []
    for event in events(folder):
        if event.session_log.status == event_pb2.SessionLog.START:
            shown = [x for x in shown if x[0] < event.step]
        shown += [(event.step, x.tag, x.simple_value) for x in event.summary.value]
    return shown


def test_after_a_kill_each_scalar_of_a_step_is_in_each_file_once(tmp_path):
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


def test_a_repeated_evaluation_is_whole_in_its_last_line(tmp_path):
    first = metrics.Writer(tmp_path, 0)
    first.scalars(2, {"test/accuracy": 0.75, "test/loss": 0.5})
    first.close()
    again = metrics.Writer(tmp_path, 2)  # on other devices, say, on which sums round otherwise
    again.scalars(2, {"test/accuracy": 0.75, "test/loss": 0.50001})
    again.close()
    assert metrics.read(tmp_path)[-1] == {"step": 2, "test/accuracy": 0.75, "test/loss": 0.50001}


def test_a_run_killed_before_a_first_checkpoint_leaves_no_events(tmp_path):
    metrics.Writer(tmp_path, 0).scalars(1, {"train/loss": 8.0})
    next(tmp_path.glob("events*")).rename(tmp_path / "events.out.tfevents.0000000001.host")
    metrics.Writer(tmp_path, 0).scalars(1, {"train/loss": 0.5})
    assert shown_events(tmp_path) == [(1, "train/loss", 0.5)]
