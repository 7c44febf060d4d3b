"""Whole runs: train.py as a user starts it, and the loop inside this process."""

import itertools
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from PIL import Image

import mlp_mixer
from mlp_mixer.evaluation import evaluators
from mlp_mixer.models.init import init
from mlp_mixer.runs import metrics
from mlp_mixer.runs.checkpoints import latest, restore_params
from mlp_mixer.training import layouts, loop, progress
from mlp_mixer.training.recipe import make_model

from .conftest import ROOT, load_config, shrink
from .processes import start_train_py
from .runs.test_metrics import events

pytestmark = pytest.mark.slow

TINY = [
    "--config.model.num_blocks=2", "--config.model.hidden_dim=16", "--config.total_epochs=0",
    "--config.model.tokens_mlp_dim=8", "--config.model.channels_mlp_dim=32",
    "--config.model.stoch_depth=0.5", "--config.log_every_steps=1", "--config.batch_size=32",
    "--config.eval_every_epochs=0", "--config.checkpoint_every_epochs=0", "--config.warmup_steps=5",
]  # fmt: skip


def scalars(workdir, name: str) -> list[float]:
    return [line[name] for line in metrics.read(workdir) if name in line]


def assert_same_weights(a, b):
    jax.tree.map(np.testing.assert_array_equal, mlp_mixer.load(a)[1], mlp_mixer.load(b)[1])


def test_a_run_leaves_weights_config_classes_and_metrics(tiny_config, finished):
    workdir, result = finished
    module, params = mlp_mixer.load(workdir / "model.npz")
    jax.tree.map(np.testing.assert_array_equal, params, restore_params(latest(workdir)))
    assert module.image_size == (8, 8) and module.num_classes == 10
    assert mlp_mixer.load(workdir)[0] == module
    assert json.loads((workdir / "config.json").read_text())["lr"] == tiny_config.lr
    assert (workdir / "classes.txt").read_text().split() == list("0123456789")
    assert [line["step"] for line in metrics.read(workdir) if "train/loss" in line] == [2, 4, 6]
    assert scalars(workdir, "test/accuracy")[-1] == result["test/accuracy"]
    assert {"train/images_per_second_per_device", "train/seconds_left"} <= set(
        metrics.read(workdir)[0]
    )
    # The rate of the update that led to each step: after one step of warm-up, a half cosine.
    rates = [0.005 * (1 + np.cos(np.pi * (step - 1 - 1) / 5)) / 2 for step in (2, 4, 6)]
    np.testing.assert_allclose(scalars(workdir, "train/lr"), rates, rtol=1e-5)
    told = [x for e in events(workdir) for x in e.summary.value if x.tag == "config/text_summary"]
    assert json.loads(told[0].tensor.string_val[0])["lr"] == tiny_config.lr and len(told) == 1


def test_a_finished_run_is_not_run_again(tiny_config, finished, tmp_path, caplog):
    finished.copy(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    with caplog.at_level("INFO"):
        assert loop.train(tiny_config, tmp_path) == finished.result
    assert "finished already" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_six_steps_equal_three_and_a_resumed_three(tiny_config, finished, tmp_path, monkeypatch):
    def stop_after_three(self, step, values):
        if step == 4:
            raise KeyboardInterrupt
        return add(self, step, values)

    add = progress.Meter.add
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(progress.Meter, "add", stop_after_three)
        loop.train(tiny_config, tmp_path / "three")
    loop.train(tiny_config, tmp_path / "three")
    assert_same_weights(finished.workdir, tmp_path / "three")


def test_a_workdir_of_another_config_is_refused_with_the_fields(tiny_config, finished, tmp_path):
    finished.copy(tmp_path)
    tiny_config.lr = 0.25
    tiny_config.model.hidden_dim = 12
    with pytest.raises(ValueError, match=r"(?s)lr: 0\.005 there, 0\.25 now.*model\.hidden_dim"):
        loop.train(tiny_config, tmp_path)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(tiny_config, tmp_path):
    tiny_config.optimizer, tiny_config.lr, tiny_config.grad_clip = "momentum", 1e6, 0.0
    tiny_config.total_steps = tiny_config.eval_every_steps = 60
    tiny_config.checkpoint_every_steps = 1
    with pytest.raises(FloatingPointError, match=r"step (\d+) is not finite.*smaller lr") as error:
        loop.train(tiny_config, tmp_path)
    failed = int(str(error.value).split()[1])
    kept = [int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert sorted(kept) == [failed - 2, failed - 1]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(restore_params(latest(tmp_path))))
    assert not (tmp_path / "model.npz").exists()


def test_a_damaged_checkpoint_says_what_to_do(tiny_config, finished, tmp_path):
    finished.copy(tmp_path)
    (tmp_path / "model.npz").unlink()
    for data in (tmp_path / "checkpoints").glob("*/params/d/*"):
        data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(ValueError, match=r"6: file params/.* has changed; delete this folder"):
        loop.train(tiny_config, tmp_path)
    for source in (tmp_path, tmp_path / "checkpoints" / "6"):
        with pytest.raises(ValueError, match=r"damaged.* file params/.* has changed"):
            mlp_mixer.load(source)


# --- transfer ---


def test_transfer_takes_all_but_the_head_and_enlarges_the_input(tiny_config, finished, tmp_path):
    config = load_config("transfer", "digits,place")
    config.model, config.lr = tiny_config.model, 0.0  # a rate of 0 keeps what was loaded
    config.init_from = str(finished.workdir)
    config.total_steps = config.eval_every_steps = config.checkpoint_every_steps = 2
    config.warmup_steps = 0
    loop.train(config, tmp_path / "large")
    module, params = mlp_mixer.load(tmp_path / "large")
    assert module.image_size == (16, 16) and module.num_classes == 20
    assert not params["head"]["kernel"].any()

    # The paper's scheme, exactly: features of the large image are the mean of those of its parts.
    images = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 1)).astype(np.float32)
    small, small_params = mlp_mixer.load(finished.workdir, num_classes=0)
    headless, large_params = mlp_mixer.load(tmp_path / "large", num_classes=0)
    parts = [
        small.apply({"params": small_params}, images[:, a : a + 8, b : b + 8])
        for a, b in itertools.product((0, 8), (0, 8))
    ]
    features = headless.apply({"params": large_params}, images)
    np.testing.assert_allclose(features, np.mean(parts, axis=0), atol=1e-5)


def test_weights_of_another_model_are_refused_by_name(finished, tmp_path):
    config = load_config("transfer", "digits,place")
    config.init_from = str(finished.workdir)
    with pytest.raises(ValueError, match=r"(?s)finished.*16x16.*has \(8,\), wanted \(64,\)"):
        loop.train(config, tmp_path / "large")
    assert not (tmp_path / "large").exists()  # so that the corrected command can use it


# --- configs ---


class Recorder(ml_collections.ConfigDict):
    """A config that notes which of its fields are read."""

    def __getattr__(self, name):
        if not name.startswith("_"):
            self.__dict__.setdefault("read", set()).add(name)
        return super().__getattr__(name)

    def __getitem__(self, name):
        self.__dict__.setdefault("read", set()).add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.__dict__.setdefault("read", set()).add(name)
        return super().get(name, default)

    def to_dict(self, *arguments, **options):
        """As in the record of a run, which is no use of a field."""
        return json.loads(self.to_json())


def recorded(config):
    recorder = Recorder()
    for name, value in config.items():
        recorder[name] = recorded(value) if isinstance(value, ml_collections.ConfigDict) else value
    recorder.__dict__["read"] = set()
    return recorder


def unread(config, prefix=""):
    for name in config.keys():  # noqa: SIM118 - iterating would read the fields
        if name not in config.__dict__["read"]:
            yield prefix + name
        value = ml_collections.ConfigDict.__getitem__(config, name)
        if isinstance(value, Recorder):
            yield from unread(value, f"{prefix}{name}.")


CONFIGS = [
    ("digits", None),
    ("cifar10", None),
    ("cifar10", "nano"),
    ("imagenet", "B/16"),
    ("imagenet21k", "L/16"),
    ("jft", "H/14"),
    ("gsam", "S/8"),
    ("sam", "ViT-B/32"),
    ("drop_schedule", "S/32"),
    ("distill", "S/16"),
    ("permutation", "cifar10,bit,patches"),
    ("permutation", "imagenet,mixer,pixels"),
    ("regularisation", "all"),
    *(("transfer", f"{model},{data}") for model, data in (
        ("B/16", "imagenet"), ("S/32", "cifar10"), ("L/16", "cifar100"), ("B/16", "pets"),
        ("B/16", "flowers"), ("B/32", "folder"), ("digits", "place"), ("nano", "digits"),
        ("S/16", "vtab:pets"),
    )),
]  # fmt: skip


# One of each kind of network and step is compiled and run; of the others that differ from it in
# numbers and data the step is traced. (`finished` has run configs/digits.py.)
COMPILED = {
    ("gsam", "S/8"), ("sam", "ViT-B/32"), ("drop_schedule", "S/32"),
    ("permutation", "cifar10,bit,patches"), ("transfer", "B/32,folder"),
}  # fmt: skip


def traced(layout, step, like, batch, *teacher):
    """A step that is not compiled: it counts, and reports zeros."""
    shapes, values = jax.eval_shape(layout.jit_step(step, like, *teacher), like, batch, *teacher)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, like)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), values)
    return lambda state, *_: (state._replace(step=state.step + 1), zeros)


def test_every_config_file_is_among_those_tested():
    files = {path.stem for path in (ROOT / "configs").glob("*.py")}
    assert files - {"common"} == {name for name, _ in CONFIGS} and set(CONFIGS) >= COMPILED
    tested = {argument.split(",")[1] for name, argument in CONFIGS if name == "transfer"}
    import configs.transfer

    assert tested == {*configs.transfer.DATASETS, "vtab:pets"}


@pytest.mark.parametrize(("name", "argument"), CONFIGS)
def test_every_config_runs_to_its_end_and_every_key_is_read(name, argument, tmp_path, monkeypatch):
    config = shrink(load_config(name, argument))
    if not config.data.source.startswith("digits"):  # data that is not here: two folders instead
        for split, label, i in itertools.product(("train", "test"), ("a", "b"), range(10)):
            path = tmp_path / "data" / split / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 32, 3), 20 * i, np.uint8)).save(path)
        config.data.source, config.data.train_split = f"folder:{tmp_path / 'data'}", "train"
        config.data.examples_per_class = min(config.data.examples_per_class, 8)
        for fields in config.evals.values():
            fields.split, fields.source, fields.enabled = "test", "", True
            if fields.type == "fewshot":
                fields.train_split, fields.shots = "train", (5,)
    config.total_steps, config.eval_every_steps, config.checkpoint_every_steps = 2, 1, 2
    if config.teacher:  # another one of this size, without training
        config.teacher = str(tmp_path / "teacher.npz")
        module = make_model(config, 2)
        mlp_mixer.save(config.teacher, module, init(module))
    config.model.update(dict(num_blocks=1) if "num_blocks" in config.model else dict(stages=(1,)))
    if name == "transfer":
        del config["sweep"]  # read by the command of that name: tests/training/test_sweep.py
    config, picture = recorded(loop.fields.check(config)), metrics.Picture(b"", 1, 1)
    monkeypatch.setattr(loop.fields, "check", lambda given: given)
    if (name, argument) not in COMPILED:
        monkeypatch.setattr(layouts.Replicated, "compile_step", traced)
        monkeypatch.setattr(evaluators, "run", lambda made, *_, **__: dict.fromkeys(made, 0.0))
    loop.train(config, tmp_path / "run", draw_sheet=lambda workdir, examples: picture)
    # Without a shuffle nothing asks for its patches and its seed, without SAM not for its groups.
    may = {"permuted.patch_size", "permuted.seed"} if config.permuted.order == "original" else set()
    assert set(unread(config)) <= may | (set() if config.sam.rho_max else {"sam.group_size"})


def test_a_run_keeps_its_best_checkpoint_and_says_which_it_took(tiny_config, tmp_path, caplog):
    tiny_config.keep_best, tiny_config.keep_checkpoints = "test/loss", 1
    tiny_config.eval_every_steps, tiny_config.checkpoint_every_steps = 1, 6
    tiny_config.lr = 0.3  # so that it gets worse again
    run = mlp_mixer.train(tiny_config, tmp_path)
    losses = {line["step"]: line["test/loss"] for line in run.metrics if "test/loss" in line}
    assert len(losses) == 6 and run.best_step == min(losses, key=losses.get)
    with caplog.at_level("INFO", "mlp_mixer"):
        run.params()
    assert f"the run's end; the best test/loss, {min(losses.values()):.4g}, is in" in caplog.text
    best = mlp_mixer.evaluate(tmp_path / "checkpoints" / str(run.best_step))
    assert best.loss == pytest.approx(min(losses.values()), abs=1e-4)
    tiny_config.keep_best = "val/loss"
    with pytest.raises(ValueError, match=r"keep_best=val/loss.*test/accuracy"):
        loop.train(tiny_config, tmp_path / "other")
    tiny_config.keep_best = "test/top1"
    with pytest.raises(ValueError, match=r"keep_best=test/top1, but the .* has test/accuracy, "):
        mlp_mixer.train(tiny_config, tmp_path / "other")


# --- the command line ---


@pytest.mark.parametrize(
    ("status", "arguments", "words"),
    [
        (2, ["--lr=1"], ["unrecognized argument --lr=1"]),
        (2, ["--config.lrr=1"], ["no field lrr; did you mean lr?"]),
        (2, ["--config.learning_rate=1"], ["no field learning_rate; did you mean lr? (configs/co"]),
        (2, ["--config.data.sorce=digits"], ["no field data.sorce", "data.source"]),
        (2, ["--config.data.source=x", "--config.sam.rho=1"], ["no field sam.rho;", "sam.rho_m"]),
        (2, ["--config.data.source.x=1"], ["no field data.source.x; did you mean data.source?"]),
        # The data first: weights may have to be downloaded.
        (1, ["--config.data.source=folder:nowhere", "--config.init_from=x.npz"], ["nowhere"]),
        (1, ["--config.total_steps=5"], ["total_steps=5", "total_epochs=", "exactly one"]),
        (1, ["--config.batch_size=7", "--config.accum_steps=2"], ["batch_size=7", "accum_steps=2"]),
        (1, ["--config.data.source=folder:nowhere"], ["nowhere"]),
        (1, ["--config.loss=hinge"], ["hinge", "softmax"]),
        (1, ["--config.optimizer=sgd"], ["optimizer is 'sgd'; it may be adam, mom", "write mom"]),
        (1, ["--config.image_size=(9,8)"], ["9x8", "2x2"]),
        (2, ["--config=configs/nothing.py"], ["nothing.py"]),
        (2, ["--config=configs/transfer.py:B/16,foo"], ["B/16,foo", "MODEL,DATASET", "cifar10"]),
        (2, ["--config=configs/transfer.py:nan,pets"], ["nan,pets", "B/16, or digits or nano"]),
    ],
)
def test_a_mistake_on_the_command_line_is_one_clear_message(
    status, arguments, words, tmp_path, command
):
    told = command("train", "--config=digits", f"--workdir={tmp_path / 'run'}", *arguments)
    assert told.status == status and all(word in told.err for word in words), told
    assert told.err.count("error: ") == 1 and "Traceback" not in told.err
    assert not (tmp_path / "run").exists()


def test_train_py_ends_with_a_message_and_a_status(tmp_path):
    process = start_train_py(tmp_path / "run", "--config.lrr=1")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "error: " in text and "Traceback" not in text, text
    assert not (tmp_path / "run").exists()
