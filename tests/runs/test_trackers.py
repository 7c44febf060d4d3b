"""Trackers: what wandb is told, read back from the files that it writes without a network."""

import json
import logging
import struct
import sys
import time
from collections.abc import Iterator

import pytest

from mlp_mixer.runs import metrics, trackers
from mlp_mixer.training import fields, loop, progress

BLOCK = 2**15


def records(path) -> Iterator:
    """The records of a file of wandb, by its format, which is that of LevelDB's log.

    After 7 bytes of wandb's, it has blocks of 32 KiB. Each part of a record is a checksum (4
    bytes), its length (2), a type (1: whole, 2 to 4: the first, a middle, the last) and data. No
    part begins in the last 6 bytes of a block.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""


def whole(path) -> list:
    """All records of a run that has ended; wandb's own process writes the last ones after that."""
    for _ in range(1000):
        found = list(records(path))
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.01)
    raise AssertionError(f"{path} has no end")


def scalars(found) -> list[tuple[int, dict[str, float]]]:
    """The steps of records, with their scalars."""
    rows = []
    for record in found:
        if record.HasField("history"):
            row = {"/".join(x.nested_key) or x.key: json.loads(x.value_json)
                   for x in record.history.item}  # fmt: skip
            step = row.pop("_step")
            rows.append((step, {name: x for name, x in row.items() if name[0] != "_"}))
    return rows


@pytest.fixture
def offline(monkeypatch):
    pytest.importorskip("wandb")
    for name, value in (("MODE", "offline"), ("SILENT", "true"), ("PROJECT", "mine")):
        monkeypatch.setenv(f"WANDB_{name}", value)


@pytest.mark.slow
def test_wandb_gets_config_and_scalars_of_one_run(tiny_config, tmp_path, monkeypatch, offline):
    def stop_after_three(self, step, values):
        if step == 5:
            raise KeyboardInterrupt
        return add(self, step, values)

    add, config, workdir = progress.Meter.add, fields.check(tiny_config), tmp_path / "run"
    with config.unlocked():
        config.tracker = "wandb"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(progress.Meter, "add", stop_after_three)
        loop.train(config, workdir)
    loop.train(config, workdir)

    first, second = map(whole, sorted(workdir.glob("wandb/offline*/*.wandb")))
    begun = [next(r.run for r in found if r.HasField("run")) for found in (first, second)]
    assert begun[0].run_id == begun[1].run_id and begun[0].project == "mine"
    assert begun[0].display_name == "run"
    told = {x.key: json.loads(x.value_json) for x in begun[0].config.update}
    assert told["lr"] == config.lr and told["model"]["hidden_dim"] == 8
    ended = [r.exit.exit_code for r in [*first, *second] if r.HasField("exit")]
    assert ended == [1, 0]
    assert [step for step, _ in scalars(first)] == [2, 3]
    assert [step for step, _ in scalars(second)] == [4, 6]
    lines: dict[int, dict[str, float]] = {}
    for line in metrics.read(workdir):
        lines.setdefault(int(line["step"]), {}).update(line)
    timed = ("images_per_second_per_device", "seconds_left")
    for step, values in [*scalars(first), *scalars(second)]:
        assert {"step", *values} == set(lines[step])
        assert all(x == lines[step][n] for n, x in values.items() if not n.endswith(timed))


class Failing:
    def scalars(self, step, values):
        raise ConnectionError("no route to host")

    def close(self, done):
        raise AssertionError("it was told more")


@pytest.mark.parametrize("when", ["start", "scalars"])
def test_a_tracker_that_fails_is_told_no_more(tmp_path, monkeypatch, caplog, when):
    def start(workdir, config):
        if when == "start":
            raise ConnectionError("no route to host")
        return Failing()

    monkeypatch.setitem(trackers.TRACKERS, "json", "failing")
    monkeypatch.setitem(sys.modules, "failing", type(sys)("failing"))
    monkeypatch.setattr(sys.modules["failing"], "start", start, raising=False)
    with caplog.at_level(logging.WARNING), trackers.Tracking("json", tmp_path, {}) as tracking:
        tracking.scalars(1, {"loss": 1.0})
        tracking.scalars(2, {"loss": 1.0})
    [message] = caplog.messages
    assert message == (
        "json is told nothing more of this run, which goes on (ConnectionError: no route to "
        "host); metrics.jsonl has every scalar"
    )


def test_only_process_0_uses_the_tracker(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.jax, "process_index", lambda: 1)
    monkeypatch.setattr(trackers.importlib, "import_module", pytest.fail)
    with trackers.Tracking("wandb", tmp_path, {}) as tracking:
        tracking.scalars(1, {"loss": 1.0})


def test_a_tracker_that_is_not_installed_is_told_first(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    tiny_config.tracker = "wandb"
    with pytest.raises(ValueError, match=r"^tracker=wandb needs wandb: pip install wandb$"):
        loop.train(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    tiny_config.tracker = "wandbb"
    with pytest.raises(ValueError, match=r'tracker is .wandbb.; it may be "" or wandb'):
        loop.train(tiny_config, tmp_path / "run")
