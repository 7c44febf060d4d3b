"""The batches: what they depend on, and that nothing is lost or seen twice."""

import errno
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from mlp_mixer.data import examples, pipeline, sources, workers
from mlp_mixer.data import in_memory as in_memory_data
from mlp_mixer.data.augment import Augment
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.data.pipeline import Reading
from mlp_mixer.data.sources import open_source

CHANGES = dict(shift=1.0, flip=True)


def digits():
    return open_source("digits", "train", 1)


def batches(count=4, in_memory=True, augment=None, **options):
    reading = Reading(**{key: options.pop(key) for key in Reading._fields if key in options})
    options = {"batch_size": 24, "seed": 3, "reading": reading} | options
    stream = pipeline.train_batches(
        digits(), augment or Augment((8, 8), **CHANGES), in_memory=in_memory, **options
    )
    return list(itertools.islice(stream, count))


class Damaged:
    """The digits, of which some are broken or cannot be read at first; with two labels each."""

    name, class_names = "damaged", tuple("0123456789")

    def __init__(self, broken=(), failures=0):
        self.digits, self.broken, self.failures = digits(), frozenset(broken), failures

    def __len__(self):
        return 40

    def __getitem__(self, index):
        if self.failures:
            self.failures -= 1
            raise TimeoutError(110, "timed out", f"digit{index}.png")
        if index in self.broken:
            raise BrokenImage(f"broken image: digit{index}.png")
        image, label = self.digits[index]
        return image, np.eye(10, dtype=np.uint8)[label] | np.eye(10, dtype=np.uint8)[9]


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for key in x:
            np.testing.assert_array_equal(x[key], y[key])


@pytest.mark.parametrize("in_memory", [True, False])
def test_batch_k_depends_on_seed_and_k_only(in_memory):
    whole = batches(6, in_memory)
    assert_equal(batches(6, in_memory, threads=3), whole)
    assert_equal(batches(2, in_memory, start=4), whole[4:])
    other = batches(1, in_memory, seed=4)[0]
    assert not np.array_equal(other["label"], whole[0]["label"])
    assert whole[0]["image"].dtype == np.uint8 and whole[0]["label"].dtype == np.int32


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("count", [2, 4])
def test_the_shares_of_all_processes_are_the_batch_of_one(in_memory, count):
    whole = batches(3, in_memory)
    shares = [batches(3, in_memory, reading=Reading((p, count))) for p in range(count)]
    joined = [
        {key: np.concatenate([share[k][key] for share in shares]) for key in ("image", "label")}
        for k in range(3)
    ]
    assert_equal(joined, whole)


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_shows_each_example_once_the_next_reordered(in_memory):
    source = digits()
    plain = Augment((8, 8))
    stream = batches(2 * 479, in_memory, augment=plain, batch_size=3, seed=0)  # 1437 = 3 * 479
    pixels = np.concatenate([batch["image"] for batch in stream]).reshape(2, 1437, -1)
    everything = sorted(source[i][0].tobytes() for i in range(1437))
    for epoch in pixels:
        assert sorted(image.tobytes() for image in epoch) == everything
    assert not np.array_equal(pixels[0], pixels[1])


def test_augmentation_differs_between_epochs():
    first, later = (
        {image.tobytes() for batch in batches(60, start=start) for image in batch["image"]}
        for start in (0, 60)
    )
    assert len(first - later) > 1000


class Alike:
    """Forty times the same image."""

    name, class_names = "alike", ("a",)

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 0


@pytest.mark.parametrize("in_memory", [True, False])
def test_augmentation_differs_between_batches_and_within_one(in_memory):
    stream = pipeline.train_batches(
        Alike(), Augment((8, 8), rotate=20.0), batch_size=10, seed=0, in_memory=in_memory
    )
    made = [image.tobytes() for batch in itertools.islice(stream, 3) for image in batch["image"]]
    assert len(set(made)) > 25  # of 30; two may be turned as good as alike


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [4, 16, 400])
def test_evaluation_sees_every_example_exactly_once(count, batch_size):
    source = open_source("digits", "test[:37]", 1)
    shares = [
        list(
            pipeline.eval_batches(
                source, (8, 8), batch_size=batch_size, reading=Reading((p, count))
            )
        )
        for p in range(count)
    ]
    assert len({len(share) for share in shares}) == 1  # as many batches on every process
    assert {b["image"].shape for s in shares for b in s} == {(batch_size // count, 8, 8, 1)}
    kept = [
        (image.tobytes(), int(label))
        for step in zip(*shares, strict=True)
        for batch in step
        for image, label, mask in zip(batch["image"], batch["label"], batch["mask"], strict=True)
        if mask
    ]
    expected = [(image.tobytes(), label) for image, label in (source[i] for i in range(37))]
    assert kept == expected


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"24.*5 processes"):
        batches(process=(0, 5))
    with pytest.raises(ValueError, match="inception_crop"):
        batches(augment=Augment((8, 8), inception_crop=0.1))


def test_images_of_other_sizes_are_resized_when_kept_in_memory(monkeypatch):
    pixels, labels = in_memory_data.load_all(digits(), (4, 6))
    assert pixels.shape == (1437, 4, 6, 1) and labels.shape == (1437,)
    monkeypatch.setattr(in_memory_data.os, "sysconf", lambda name: 4)  # a machine of 16 bytes
    with pytest.raises(ValueError, match=r"set data.in_memory to False"):
        in_memory_data.load_all(digits(), (4, 6))


@pytest.mark.slow
def test_worker_processes_give_the_same_batches():
    assert_equal(batches(3, False, start=2, workers=2), batches(3, False, start=2))
    source = Damaged(broken=[3, 26])
    with_workers, without = (
        list(
            pipeline.eval_batches(
                source,
                (6, 7),
                batch_size=50,
                reading=Reading(process=(1, 2), workers=count, skip_broken=True),
            )
        )
        for count in (1, 0)
    )
    assert_equal(with_workers, without)


def test_a_killed_worker_process_is_one_clear_error():
    stream = pipeline.train_batches(
        digits(), Augment((8, 8)), batch_size=24, seed=0, reading=Reading(workers=2)
    )
    next(stream)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match=r"one of the 2 processes .* died"):
        for _ in range(100):
            next(stream)


@pytest.mark.slow
def test_worker_processes_end_with_the_process_that_started_them():
    script = """if __name__ == "__main__":
        import os, signal
        from mlp_mixer.data import pipeline, sources
        from mlp_mixer.data.pipeline import Reading
        from mlp_mixer.data.augment import Augment
        source = sources.open_source("digits", "test", 1)
        augment, reading = Augment((8, 8)), Reading(workers=1)
        stream = pipeline.train_batches(source, augment, batch_size=8, seed=0, reading=reading)
        next(stream)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    # Its output ends when all have ended that can write to it: the worker is one of them.
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_what_worker_processes_cannot_do_is_refused():
    with pytest.raises(ValueError, match="in_memory"):
        batches(workers=2)
    source = digits()
    source.lock = threading.Lock()
    stream = pipeline.train_batches(
        source, Augment((8, 8)), batch_size=8, seed=0, reading=Reading(workers=1)
    )
    with pytest.raises(ValueError, match=r"cannot be sent to worker processes .*lock"):
        next(stream)


@pytest.mark.parametrize("in_memory", [True, False])
def test_broken_training_images_are_replaced_and_named_once(in_memory, caplog):
    broken = [0, 7, 8, 39]
    stream = pipeline.train_batches(
        Damaged(broken), Augment((8, 8)), batch_size=20, seed=0, in_memory=in_memory,
        reading=Reading(skip_broken=True),
    )  # fmt: skip
    epochs = list(itertools.islice(stream, 4))
    assert {tuple(batch["label"].shape) for batch in epochs} == {(20, 10)}
    seen = {image.tobytes() for batch in epochs for image in batch["image"]}
    good = {digits()[i][0].tobytes() for i in range(40) if i not in broken}
    assert seen == good
    assert [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()][-1].startswith(
        "skipped 4 broken images so far: broken image: digit"
    )
    assert len(caplog.records) == 4  # although two epochs met them
    if not in_memory:
        loaded = pipeline._TrainExamples(Damaged(broken), Augment((8, 8)), 0, True)
        stand_ins = [loaded._load(i, None).image for i in (0, 7, 8, 39)]
        for image, index in zip(stand_ins, (1, 9, 9, 1), strict=True):
            np.testing.assert_array_equal(image, digits()[index][0])


def test_broken_images_are_left_out_of_an_evaluation(caplog):
    evaluated = list(
        pipeline.eval_batches(
            Damaged([0, 35]), (8, 8), batch_size=30, reading=Reading(skip_broken=True)
        )
    )
    mask = np.concatenate([batch["mask"] for batch in evaluated])
    assert [int(i) for i in np.flatnonzero(mask == 0)] == [0, 35, *range(40, 60)]
    labels = np.concatenate([batch["label"] for batch in evaluated])
    assert labels.dtype == np.uint8 and labels.shape == (60, 10)
    np.testing.assert_array_equal(labels[5], Damaged()[5][1])
    assert len(caplog.records) == 2
    with pytest.raises(BrokenImage, match=r"digit0\.png"):
        list(pipeline.eval_batches(Damaged([0, 35]), (8, 8), batch_size=30))
    with pytest.raises(BrokenImage, match="40 broken images in a row"):
        list(
            pipeline.eval_batches(
                Damaged(range(40)), (8, 8), batch_size=30, reading=Reading(skip_broken=True)
            )
        )


def test_storage_that_fails_for_a_while_is_tried_again(monkeypatch, caplog):
    monkeypatch.setattr(examples, "RETRY_WAITS", (0, 0, 0))
    evaluated = list(pipeline.eval_batches(Damaged(failures=3), (8, 8), batch_size=40))
    assert evaluated[0]["mask"].sum() == 40
    assert [r.getMessage() for r in caplog.records] == [
        "reading digit0.png failed ([Errno 110] timed out: 'digit0.png'); trying again in 0 s"
    ] * 3
    with pytest.raises(OSError, match=r"digit0\.png could not be read in 4 tries.*timed out"):
        next(pipeline.eval_batches(Damaged(failures=100), (8, 8), batch_size=40))


@pytest.mark.parametrize(
    "number", ["ENOENT", "EACCES", "EPERM", "ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG"]
)
def test_a_file_that_waiting_does_not_bring_is_an_error_at_once(number, monkeypatch):
    class Gone(Damaged):
        def __getitem__(self, index):
            raise OSError(getattr(errno, number), "gone", f"digit{index}.png")

    monkeypatch.setattr(examples.time, "sleep", lambda seconds: pytest.fail("it was waited for"))
    with pytest.raises(OSError, match=r"gone: 'digit0\.png'"):
        next(pipeline.eval_batches(Gone(), (8, 8), batch_size=40))


def test_storage_that_is_stuck_is_mentioned(monkeypatch, caplog):
    monkeypatch.setattr(workers, "WARN_SECONDS", 0.05)
    release = threading.Event()
    caplog_seen = []

    class Stuck(Damaged):
        def __getitem__(self, index):
            if index == 30:
                while not (messages := [r.getMessage() for r in caplog.records]):
                    release.wait(0.02)
                caplog_seen.extend(messages)
            return super().__getitem__(index)

    list(pipeline.eval_batches(Stuck(), (8, 8), batch_size=40))
    assert caplog_seen[0].startswith("waiting for images for 0 s")


def test_an_error_while_loading_reaches_the_user_as_it_is(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat" / "broken.png").write_bytes(b"broken")
    source = sources.open_source(f"folder:{tmp_path}", "train")
    stream = pipeline.train_batches(source, Augment((8, 8)), batch_size=2, seed=0)
    with pytest.raises(ValueError, match=r"broken\.png in folder .*cat"):
        next(stream)
    with pytest.raises(ValueError, match=r"broken\.png in folder .*cat"):
        next(pipeline.eval_batches(source, (8, 8), batch_size=2))
