"""Checkpoints and their digests: what is damaged is noticed, and what is good is never lost."""

import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlp_mixer.runs import checkpointer, checkpoints, digests
from mlp_mixer.runs.checkpointer import Checkpointer
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.runs.orbax_errors import in_a_line

from ..conftest import python_with_devices


def make_state(step: int) -> TrainState:
    rng = np.random.default_rng(step)
    params = {
        "head": {"kernel": rng.normal(size=(40, 30)), "bias": rng.normal(size=30)},
        "stem": {"kernel": rng.normal(size=(2, 2, 3, 40))},
    }
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    return TrainState(jnp.asarray(step, jnp.int32), params, optax.adam(0.1).init(params))


def save(workdir, *steps: int, keep: int = 2) -> None:
    with Checkpointer(workdir, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step))


def restore(workdir) -> TrainState | None:
    like = jax.eval_shape(lambda: make_state(0))
    shardings = jax.tree.map(lambda x: jax.sharding.SingleDeviceSharding(jax.devices()[0]), like)
    with Checkpointer(workdir) as checkpoints:
        return checkpoints.restore(like, shardings)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# --- digests ---


def reference(x: np.ndarray) -> str:
    """The digest as its definition reads, in plain Python integers."""
    sums = [0, 0]
    raw = np.ascontiguousarray(x).tobytes()
    size = min(x.dtype.itemsize, 4)
    for place in range(len(raw) // size):
        h = int.from_bytes(raw[place * size : (place + 1) * size], "little")
        h ^= place * 0x9E3779B1 % 2**32
        h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        h ^= h >> 16
        g = h * 0x27D4EB2F % 2**32
        sums[0] += h
        sums[1] += g ^ g >> 15
    return "".join(f"{s % 2**32:08x}" for s in sums)


@pytest.mark.parametrize(
    "x",
    [
        np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32),
        np.asarray(jnp.arange(7, dtype=jnp.bfloat16)),
        np.int32(12345),
        np.zeros((0, 3), np.float32),
        np.array([True, False]),
    ],
    ids=lambda x: f"{x.dtype}{x.shape}",
)
def test_a_digest_is_what_its_definition_says(x):
    assert digests.of_arrays({"x": jnp.asarray(x)}) == {"x": reference(np.asarray(x))}


def test_every_flipped_bit_and_every_swap_changes_the_digest():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    seen = {digests.of_arrays({"x": x})["x"]}
    for bit in range(8 * x.nbytes):
        flipped = x.copy().reshape(-1).view(np.uint32)
        flipped[bit // 32] ^= np.uint32(1 << bit % 32)
        seen.add(digests.of_arrays({"x": flipped.view(np.float32).reshape(x.shape)})["x"])
    assert len(seen) == 1 + 8 * x.nbytes
    assert digests.of_arrays({"x": x[:, ::-1]})["x"] not in seen
    negated = x * np.where(np.arange(4) < 2, -1, 1).astype(np.float32)  # only sign bits
    assert digests.of_arrays({"x": negated})["x"] not in seen


def test_a_digest_is_right_though_the_array_is_donated_at_once():
    x = np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)
    change = jax.jit(lambda x: x + 1, donate_argnums=0)
    for _ in range(5):
        array = jnp.asarray(x) * 1
        pending = digests.start({"x": array})
        jax.block_until_ready(change(array))
        assert digests.finish(pending) == digests.of_arrays({"x": x})


def test_a_digest_is_the_same_for_every_layout():
    text = python_with_devices(8, """
        import jax, numpy as np
        from jax.sharding import NamedSharding, PartitionSpec as P
        from mlp_mixer.runs import digests
        x = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
        mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
        for spec in (P(), P("a"), P(None, "b"), P("b", "a"), P(("a", "b"))):
            print(digests.of_arrays({"x": jax.device_put(x, NamedSharding(mesh, spec))})["x"])
    """)  # fmt: skip
    x = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    assert text.split() == [reference(x)] * 5


# --- saving and restoring ---


def test_the_newest_checkpoints_stay_and_restore_exactly(tmp_path):
    save(tmp_path, 10, 20, 30)
    assert checkpoints.all_steps(tmp_path) == [20, 30]
    assert_equal(restore(tmp_path), make_state(30))
    params = checkpoints.restore_params(checkpoints.latest(tmp_path))
    assert_equal(params, make_state(30).params)


def test_nothing_saved_restores_as_none(tmp_path):
    assert restore(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="neither"):
        checkpoints.latest(tmp_path)


def test_sha256sum_agrees_with_the_list_of_files(tmp_path):
    if not shutil.which("sha256sum"):
        pytest.skip("sha256sum is not installed")
    save(tmp_path, 10)
    folder = tmp_path / "checkpoints" / "10"
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def cut(path, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def delete(path, rng):
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("harm", [flip, cut, delete])
def test_damage_to_any_file_is_noticed_and_the_one_before_used(tmp_path, harm, caplog):
    save(tmp_path / "good", 10, 20)
    rng = np.random.default_rng(0)
    good = tmp_path / "good" / "checkpoints" / "20"
    harmed = [path for path in files(good) if path.stat().st_size]
    for path in harmed:
        copy = tmp_path / "copy" / "20"
        shutil.copytree(good, copy, dirs_exist_ok=False)
        harm(copy / path.relative_to(good), rng)
        assert checkpoints.what_is_wrong(copy), path
        shutil.rmtree(copy)
    data = max(harmed, key=lambda path: path.stat().st_size)
    harm(data, rng)
    assert_equal(restore(tmp_path / "good"), make_state(10))
    assert "checkpoints/20 IS DAMAGED" in caplog.text
    assert checkpoints.all_steps(tmp_path / "good") == [10]
    assert "has changed" in (good / checkpointer.DAMAGED_FILE).read_text() or harm is not flip


def test_what_a_viewer_of_the_folder_has_left_there_is_no_damage(tmp_path):
    save(tmp_path, 10)
    folder = tmp_path / "checkpoints" / "10"
    for name in (
        ".DS_Store",
        "._x",
        "state/.DS_Store",
        ".ipynb_checkpoints/arrays-checkpoint.json",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert_equal(restore(tmp_path), make_state(10))
    (folder / "other").write_bytes(b"x")
    assert checkpoints.what_is_wrong(folder) == "file other is not listed"


def test_only_what_a_run_left_unfinished_is_deleted(tmp_path):
    save(tmp_path, 10)
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "10", folder / "10-good")
    for name in ("plots", "20", "30.orbax-checkpoint-tmp-1"):
        (folder / name).mkdir()
        (folder / name / "file").write_bytes(b"x")
    assert_equal(restore(tmp_path), make_state(10))
    assert sorted(path.name for path in folder.iterdir()) == ["10", "10-good", "plots"]
    assert not checkpoints.what_is_wrong(folder / "10-good")


def test_a_checkpoint_under_the_name_of_another_step_is_noticed(tmp_path):
    save(tmp_path, 10)
    (tmp_path / "checkpoints" / "10").rename(tmp_path / "checkpoints" / "11")
    with pytest.raises(ValueError, match="11: it was saved at step 10"):
        restore(tmp_path)


def test_arrays_unlike_those_saved_are_noticed_in_sound_files(tmp_path):
    save(tmp_path, 10, 20)
    folder = tmp_path / "checkpoints" / "20"
    step, arrays = digests.read_arrays(folder)
    arrays["params/head/bias"] = "0" * 16
    digests.write_arrays(folder, step, arrays)
    digests.seal(folder, digests.of_files(folder))
    with pytest.raises(ValueError, match="params/head/bias is not what was saved"):
        checkpoints.restore_params(folder)
    assert_equal(restore(tmp_path), make_state(10))


def test_if_all_are_damaged_they_are_named_and_left_alone(tmp_path):
    save(tmp_path, 10, 20)
    for step in ("10", "20"):
        (tmp_path / "checkpoints" / step / "params" / "manifest.ocdbt").unlink()
    for use in (restore, restore, checkpoints.latest):
        with pytest.raises(ValueError, match=r"10: .*manifest.ocdbt is missing; 20: "):
            use(tmp_path)
    assert checkpoints.all_steps(tmp_path) == [10, 20]


def test_the_last_good_one_stays_until_the_next_is_verified(tmp_path, monkeypatch):
    """What is read back differs from what was saved: the new one never gets its name."""
    save(tmp_path, 10, keep=1)
    monkeypatch.setattr(
        checkpointer,
        "read_item",
        lambda item, like: jax.tree.map(lambda x: jnp.ones(x.shape), like),
    )
    with pytest.raises(OSError, match=r"checkpoints/20 could not be written.*from step 10"):
        save(tmp_path, 20, keep=1)
    monkeypatch.undo()
    assert checkpoints.all_steps(tmp_path) == [10]
    assert_equal(restore(tmp_path), make_state(10))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["10"]


def test_a_vanished_workdir_is_an_error_and_not_a_new_folder(tmp_path):
    checkpoints = Checkpointer(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(OSError, match="vanished"):
        checkpoints.save(10, make_state(10))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "annotations",
    [
        "[os_error_code='27']",
        "[os_error_code='27'] [source locations='a.cc:1\\nb.cc:134']",
        "[source locations='a.cc:1\\nb.cc:134'] [os_error_code='27']",
    ],
)
def test_the_systems_own_words_are_told(annotations):
    error = ValueError(f'OUT_OF_RANGE: Failed writing: "/a/b": File too large {annotations}\nmore')
    assert in_a_line(error) == "File too large"


def test_a_full_disk_is_one_message_and_loses_nothing(tmp_path):
    """A limit on the size of files fails like a full disk, in the threads of Orbax."""
    save(tmp_path, 10)
    text = python_with_devices(1, f"""
        import os, resource, signal, warnings
        from mlp_mixer.runs.checkpointer import Checkpointer
        from tests.runs.test_checkpoints import make_state
        os.dup2(1, 2)
        warnings.simplefilter("ignore")  # compiled programs cannot be cached, either
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            with Checkpointer({str(tmp_path)!r}) as checkpoints:
                checkpoints.save(20, make_state(20))
        except OSError as error:
            print(error)
    """)  # fmt: skip
    assert text.strip() == (
        f"checkpoint {tmp_path}/checkpoints/20 could not be written (File too large); the same "
        "command continues from step 10"
    )
    assert_equal(restore(tmp_path), make_state(10))


@pytest.mark.parametrize(("scalar", "kept"), [("test/accuracy", 10), ("test/loss", 20)])
def test_the_best_checkpoint_stays_beside_the_newest(tmp_path, scalar, kept):
    with Checkpointer(tmp_path, keep=1) as checkpoints_:
        for step, value in ((10, 0.9), (20, 0.1), (30, 0.5), (40, 0.5)):
            checkpoints_.save(step, make_state(step))
            checkpoints_.note(step, scalar, value)
    assert checkpoints.best(tmp_path).step == kept
    assert checkpoints.all_steps(tmp_path) == [kept, 40]
