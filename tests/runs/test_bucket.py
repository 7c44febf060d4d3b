"""A workdir in a bucket keeps what one on a disk keeps: exact resume, damage noticed, one run."""

import json
import time

import pytest

import mlp_mixer
from mlp_mixer.cli import config
from mlp_mixer.runs import bucket_lock, checkpointer, checkpoints, holders, lock, metrics
from mlp_mixer.runs.checkpointer import Checkpointer
from mlp_mixer.runs.uploads import Uploads
from mlp_mixer.runtime import buckets, storage
from mlp_mixer.training import loop

from ..bucket import Faults
from ..conftest import load_config, shrink
from ..processes import finish, start, start_two
from ..test_train import TINY, assert_same_weights, scalars
from .test_checkpoints import assert_equal, make_state, restore, save
from .test_metrics import shown_events

RUN = [
    *TINY, "--config.total_steps=40", "--config.eval_every_steps=20",
    "--config.checkpoint_every_steps=10",
]  # fmt: skip


def download(folder, to):
    """A copy of a folder in the bucket on a disk."""
    for name in storage.files(folder):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes((folder / name).read_bytes())
    return to


# --- checkpoints ---


@pytest.mark.slow
def test_the_newest_checkpoints_stay_and_restore(bucket):
    save(bucket, 10, 20, 30)
    assert checkpoints.all_steps(bucket) == [20, 30]
    assert_equal(restore(bucket), make_state(30))
    assert_equal(checkpoints.restore_params(checkpoints.latest(bucket)), make_state(30).params)


@pytest.mark.slow
def test_a_flipped_bit_is_noticed_and_the_one_before_used(bucket, caplog):
    save(bucket, 10, 20)
    folder = checkpoints.folder_of(bucket, 20)
    path = max((folder / name for name in storage.files(folder)), key=lambda p: p.stat().length)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
    assert_equal(restore(bucket), make_state(10))
    assert "checkpoints/20 IS DAMAGED: file " in caplog.text
    assert checkpoints.all_steps(bucket) == [10]
    save(bucket, 20)  # the run comes to that step again
    assert_equal(restore(bucket), make_state(20))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_without_its_marker_a_folder_is_no_checkpoint(where, tmp_path, request):
    workdir = tmp_path if where == "disk" else request.getfixturevalue("bucket")
    save(workdir, 10, 20)
    (checkpoints.folder_of(workdir, 20) / "SHA256SUMS").unlink()
    assert checkpoints.all_steps(workdir) == [10]
    assert_equal(restore(workdir), make_state(10))
    assert storage.names(checkpoints.folder_of(workdir)) == ["10"]


@pytest.mark.slow
def test_the_marker_comes_last_and_goes_first(bucket, monkeypatch):
    """At no moment does a checkpoint seem to exist that is not whole."""
    seen = []

    def before_marker():
        folder = checkpoints.folder_of(bucket, 20)
        seen.append(("before marker", "arrays.json" in storage.names(folder)))
        seen.append(("exist", checkpoints.all_steps(bucket)))

    def remove(folder):
        if storage.names(folder):
            seen.append(("removing", folder.name, checkpoints.all_steps(bucket)))
        storage.remove_tree(folder)

    monkeypatch.setattr(checkpointer, "remove_tree", remove)
    with Checkpointer(bucket) as run:
        run.save(10, make_state(10))
        run.save(20, make_state(20), before_marker)
    assert seen == [("before marker", True), ("exist", [10]), ("removing", "10", [20])]


@pytest.mark.slow
def test_a_lost_lock_stops_a_save_before_its_marker(bucket):
    def check():
        if storage.names(checkpoints.folder_of(bucket, 20)):
            raise bucket_lock.LostLock("another run has taken over")

    save(bucket, 10)
    with (
        pytest.raises(bucket_lock.LostLock, match="taken over"),
        Checkpointer(bucket, check_lock=check) as run,
    ):
        run.save(20, make_state(20))
    assert checkpoints.all_steps(bucket) == [10]


# --- the lock ---


def test_a_second_run_is_told_who_holds_a_bucket(bucket, monkeypatch):
    with lock.hold(bucket):
        with pytest.raises(ValueError, match=r"under way \(process "), lock.hold(bucket):
            pass
        monkeypatch.setattr(holders, "held_here", {})  # as another process sees it
        words = r"process \d+ on .* since .*, last seen \d seconds ago; if it is dead, the same " \
            r"command takes its place in 1[12]\d seconds"  # fmt: skip
        with pytest.raises(ValueError, match=words), lock.hold(bucket):
            pass
        assert storage.names(bucket) == [holders.FILE]  # nothing was left by asking
    assert storage.names(bucket) == []


def test_a_lock_given_back_is_free_at_once(bucket):
    with lock.hold(bucket):
        storage.write_text(bucket / "config.json", "{}")
    assert json.loads((bucket / holders.FILE).read_text())["released"]
    with lock.hold(bucket):
        assert not json.loads((bucket / holders.FILE).read_text())["released"]


def test_a_dead_owners_lock_is_taken_over_after_its_time(bucket, monkeypatch, caplog):
    monkeypatch.setattr(bucket_lock, "HEARTBEAT_SECONDS", 100.0)
    with lock.hold(bucket) as first:
        monkeypatch.setattr(holders, "held_here", {})
        monkeypatch.setattr(bucket_lock, "STALE_SECONDS", 0.5)
        time.sleep(0.6)
        with lock.hold(bucket) as second:
            assert "taking over" in caplog.text and "last sign of life" in caplog.text
            second.check()
            with pytest.raises(bucket_lock.LostLock, match="another run has taken over"):
                first.check()
    assert json.loads((bucket / holders.FILE).read_text())["released"]  # by the second


@pytest.mark.slow
def test_only_one_of_two_takes_over(bucket, monkeypatch):
    """Between reading a stale lock and writing one's own, another run may have been first."""
    with lock.hold(bucket):
        monkeypatch.setattr(holders, "held_here", {})
        who_lives = bucket_lock.BucketLock._who_lives

        def slowly(self, found):
            monkeypatch.setattr(bucket_lock.BucketLock, "_who_lives", who_lives)
            monkeypatch.setattr(holders, "held_here", {})
            with lock.hold(bucket):
                monkeypatch.setattr(holders, "held_here", {str(bucket): ""})
                return ""

        monkeypatch.setattr(bucket_lock, "STALE_SECONDS", 0.0)
        monkeypatch.setattr(bucket_lock.BucketLock, "_who_lives", slowly)
        with pytest.raises(ValueError, match="under way"), lock.hold(bucket):
            pass


def test_only_one_of_two_begins(bucket, monkeypatch):
    """Both have seen that there is no lock; only the first may make one."""
    with lock.hold(bucket):
        monkeypatch.setattr(holders, "held_here", {})
        read, asked = buckets.SharedObject.read, []

        def read_too_early(self):
            asked.append(self)
            return None if len(asked) == 1 else read(self)

        monkeypatch.setattr(buckets.SharedObject, "read", read_too_early)
        with pytest.raises(ValueError, match="under way"), lock.hold(bucket):
            pass


def test_a_heart_beats_and_ends_with_the_run(bucket, monkeypatch):
    monkeypatch.setattr(bucket_lock, "HEARTBEAT_SECONDS", 0.05)
    with lock.hold(bucket) as held:
        before = json.loads((bucket / holders.FILE).read_text())["version"]
        deadline = time.monotonic() + 30
        while json.loads((bucket / holders.FILE).read_text())["version"] == before:
            assert time.monotonic() < deadline
        storage.write_text(bucket / "config.json", "{}")
        held.check()
    last = (bucket / holders.FILE).read_text()
    time.sleep(0.3)
    assert (bucket / holders.FILE).read_text() == last


def test_an_answer_that_is_lost_is_no_lost_lock(bucket, proxy):
    """A write that was done, and of which nothing was heard, is found to be one's own."""
    shared = buckets.SharedObject(bucket / "lock")
    first = shared.write(b"1", over=None)
    proxy.faults = Faults(0.5, ("cut",))
    version = first
    for number in range(2, 12):
        version = shared.write(b"%d" % number, over=version.generation)
        assert version and version.content == b"%d" % number
    proxy.faults = Faults()
    assert shared.write(b"late", over=first.generation) is None
    assert shared.read().content == b"11" and proxy.failures > 3


# --- metrics ---


def test_metrics_and_events_are_whole_after_a_kill(bucket, tmp_path):
    killed = metrics.Writer(bucket, 0)  # never closed
    killed.scalars(1, {"train/loss": 0.75})
    killed.scalars(2, {"train/loss": 0.5})
    killed.scalars(3, {"train/loss": 8.0})
    killed.flush()
    assert [line["step"] for line in metrics.read(bucket)] == [1, 2, 3]
    again = metrics.Writer(bucket, 2)
    again.scalars(2, {"test/loss": 0.25})
    again.scalars(3, {"train/loss": 0.125})
    again.close()
    assert metrics.read(bucket) == [
        {"step": 1, "train/loss": 0.75}, {"step": 2, "train/loss": 0.5},
        {"step": 2, "test/loss": 0.25}, {"step": 3, "train/loss": 0.125},
    ]  # fmt: skip
    assert shown_events(download(bucket, tmp_path)) == [
        (1, "train/loss", 0.75), (2, "train/loss", 0.5), (2, "test/loss", 0.25),
        (3, "train/loss", 0.125),
    ]  # fmt: skip


def test_only_the_newest_content_waits_for_a_slow_network(bucket, proxy):
    proxy.delay = 0.3
    uploads = Uploads(lambda: None)
    begin = time.monotonic()
    for number in range(50):
        uploads.put(bucket / "a", b"%d" % number)
    assert time.monotonic() - begin < 0.3  # nothing waited
    proxy.forget()
    uploads.close()
    proxy.delay = 0.0
    assert (bucket / "a").read_bytes() == b"49" and proxy.counts["write"] <= 3


def test_an_upload_that_fails_is_an_error_for_the_run(bucket, proxy):
    uploads = Uploads(lambda: None)
    proxy.answer = 403
    uploads.put(bucket / "a", b"1")
    with pytest.raises(OSError, match="Forbidden"):
        uploads.flush()
    with pytest.raises(OSError, match="Forbidden"):
        uploads.put(bucket / "a", b"2")


# --- runs ---


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """The workdir of the same run on a disk."""
    workdir = tmp_path_factory.mktemp("bucket") / "run"
    loop.train(shrink(load_config("digits")), workdir)
    return workdir


def assert_same_run(a, b):
    assert_same_weights(a, b)
    for name in ("train/loss", "test/accuracy", "test/loss"):
        assert scalars(a, name) == scalars(b, name)


@pytest.mark.slow
def test_a_run_in_a_bucket_is_the_one_on_a_disk(bucket, on_disk, tiny_config, run, tmp_path):
    loop.train(tiny_config, bucket)
    assert_same_run(bucket, on_disk)
    assert checkpoints.all_steps(bucket) == checkpoints.all_steps(on_disk)
    found = mlp_mixer.Run(bucket)
    assert found.is_finished and found.step == 6 and "gs://runs" in repr(found)
    assert found.evaluate().accuracy == scalars(on_disk, "test/accuracy")[-1]
    # And every command takes its address.
    assert "accuracy" in run("evaluate", f"--checkpoint={bucket}", f"--figure={bucket}/a.png")
    assert (bucket / "a.png").read_bytes().startswith(b"\x89PNG")
    assert f"{storage.size(bucket / 'model.npz'):,}" in run("inspect", bucket)
    run("curves", bucket, f"--out={bucket}/curves.svg")
    assert "<svg" in (bucket / "curves.svg").read_text()
    run("report", bucket, f"--out={bucket}/report.html")
    assert "of 360 images" in (bucket / "report.html").read_text()
    run("convert", bucket, f"{bucket}/out/timm.safetensors")
    run("convert", f"{bucket}/model.npz", tmp_path / "again.npz")
    assert_same_weights(tmp_path / "again.npz", on_disk)
    assert_same_weights(checkpoints.folder_of(bucket, 6), on_disk)
    run("export", bucket, f"{bucket}/out/digits.jaxmodel")
    assert storage.names(bucket / "out") == ["digits.jaxmodel", "timm.safetensors"]


@pytest.mark.slow
def test_faults_of_the_network_change_nothing(bucket, on_disk, tiny_config, proxy):
    proxy.forget()
    proxy.faults = Faults(0.1, ("503", "cut"))
    loop.train(tiny_config, bucket)
    assert_same_run(bucket, on_disk)
    assert proxy.failures > 10


@pytest.mark.slow
def test_a_run_killed_twice_in_a_bucket_is_bit_equal(bucket, tmp_path):
    straight = tmp_path / "straight"
    loop.train(config.load("digits", RUN), straight)

    def kill_when(condition):
        process = start(bucket, *RUN)
        deadline = time.monotonic() + 200
        while not condition():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.01)  # each look is several requests
        process.kill()
        process.communicate()

    def writing():
        steps = checkpoints.all_steps(bucket)
        names = storage.names(checkpoints.folder_of(bucket))
        return any(name.isdecimal() and int(name) not in steps for name in names)

    kill_when(writing)
    kill_when(lambda: checkpoints.latest_step(bucket) and writing())
    text = finish(start(bucket, *RUN))
    assert "taking over" in text and "continuing after step" in text
    assert_same_run(bucket, straight)
    assert sorted(storage.names(checkpoints.folder_of(bucket))) == ["30", "40"]


@pytest.mark.slow
def test_two_processes_share_a_bucket(bucket):
    finish(*start_two(bucket, "--config.layout=fsdp"))
    newest = checkpoints.latest(bucket)
    assert_equal(checkpoints.restore_params(newest), mlp_mixer.load(bucket / "model.npz")[1])
    parts = storage.names(newest / "params")
    assert {"ocdbt.process_0", "ocdbt.process_1"} <= set(parts)


# --- what a user can mend ---


def lines_within_10_seconds(command, workdir) -> str:
    """What a refused start tells, in one line."""
    begin = time.monotonic()
    told = command("train", "--config=digits", f"--workdir={workdir}", "--distributed=off")
    assert time.monotonic() - begin < 10 and told.status == 1
    error, where = told.err.strip().splitlines()[-2:]
    assert error.startswith("error: ") and "MLP_MIXER_TRACEBACK" in where, told.err
    return error


def test_a_bucket_that_does_not_exist_is_one_line(proxy, command):
    error = lines_within_10_seconds(command, "gs://no-such-bucket/run")
    assert error.startswith("error: gs://no-such-bucket/run: there is no such bucket; check")
    assert "POST" not in error and "{" not in error
    told = command("evaluate", "--checkpoint=gs://runs/nothing")
    assert told.status == 1 and "error: there is nothing at gs://runs/nothing\n" in told.err
    told = command("convert", "gs://runs/nothing/model.npz", "gs://runs/x.npz")
    assert "error: there is nothing at gs://runs/nothing/model.npz\n" in told.err
    with pytest.raises(FileNotFoundError, match=r"gs://no-such-bucket/x: there is no such object"):
        storage.write_text(storage.as_path("gs://no-such-bucket/x"), "text")


@pytest.mark.slow
def test_all_processes_end_if_process_0_cannot_begin(proxy):
    processes = start_two("gs://no-such-bucket/run")
    texts = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], texts
    assert "there is no such bucket" in texts[0] and "process 0 has failed" in texts[1]


@pytest.mark.parametrize(("answer", "words"), [(403, "no right"), (401, "are not valid")])
def test_credentials_without_rights_are_one_line(bucket, proxy, command, answer, words):
    proxy.answer = answer
    assert words in lines_within_10_seconds(command, bucket)


def test_missing_credentials_are_one_line(command, monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")  # as away from Google's machines
    assert "there are no credentials: gcloud auth" in lines_within_10_seconds(command, "gs://b/run")


def test_a_workdir_where_orbax_cannot_write_is_refused(monkeypatch):
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: "installed")
    with pytest.raises(ValueError, match="a folder or a gs:// address"), lock.hold("s3://b/run"):
        pass


@pytest.mark.slow
def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="gs://b/run needs gcsfs: pip install gcsfs"):
        storage.as_path("gs://b/run")
