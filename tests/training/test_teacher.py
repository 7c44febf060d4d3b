"""Distillation by a teacher: limits, costs, and what a teacher may be.

Whole updates are compared with independent ones in test_independent_step.
"""

import json
import shutil
import zipfile
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

import mlp_mixer
from mlp_mixer.models import losses
from mlp_mixer.models.init import init
from mlp_mixer.models.permuted import Permuted
from mlp_mixer.models.pixels import forward
from mlp_mixer.planning import compiler
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.runs.folder import TEACHER_FILE
from mlp_mixer.training import layouts, resume
from mlp_mixer.training.mixup import Mixup
from mlp_mixer.training.recipe import make_model, make_recipe
from mlp_mixer.training.sam import Sam
from mlp_mixer.training.step import make_train_step
from mlp_mixer.training.teacher import Teacher, load_teacher, module_of
from mlp_mixer.weights import metadata

from ..conftest import load_config, nowhere_zero

DIGITS = tuple("0123456789")
ROWS = 16


def make_module(**sizes):
    widths = dict(num_blocks=2, hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=32)
    return mlp_mixer.create(num_classes=5, image_size=8, patch_size=4, **widths | sizes)


def make_params(module, seed=0):
    rng = np.random.default_rng(seed)
    return nowhere_zero(module, rng)


# --- the loss and the step ---


def test_the_loss_and_its_gradient_are_those_of_float64():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 5, (2, 40, 7))
    student[0], teacher[0] = [90, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 90]
    teacher[1] = student[1] + 3  # the same softmax
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (student, teacher))
    expected = (q * (np.log(q) - np.log(p))).sum(-1)
    assert expected[0] == pytest.approx(90, rel=1e-3) and abs(expected[1]) < 1e-12
    got, slope = jax.vmap(jax.value_and_grad(losses.distillation))(
        jnp.float32(student), jnp.float32(teacher)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slope, p - q, atol=1e-6)


@pytest.mark.slow
def test_nothing_moves_where_the_teacher_is_the_student():
    """Whatever the images are mixed to, and however they are split. The teacher drops nothing."""
    module, tx, layout = (
        make_module(),
        optax.sgd(1.0),
        layouts.make_layout(devices=jax.devices()[:1]),
    )
    params, rng = make_params(module), np.random.default_rng(1)
    batch = {
        "image": rng.integers(0, 256, (ROWS, 8, 8, 3), dtype=np.uint8),
        "label": rng.integers(0, 5, ROWS).astype(np.int32),
    }
    step = make_train_step(
        module, tx, loss="softmax", mixup=Mixup(1.0, True, cutmix=1.0), accum_steps=4,
        teacher=module.clone(dropout_rate=0.5, stoch_depth=0.9),
    )  # fmt: skip
    run = layout.jit_step(step, TrainState(jnp.int32(0), params, tx.init(params)), params)

    def take_steps(teacher_params):
        state = TrainState(jnp.int32(0), params, tx.init(params))
        for _ in range(3):
            state, metrics = run(state, layout.to_devices(batch), teacher_params)
        apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), jax.device_get(state.params), params)
        return max(jax.tree.leaves(apart)), metrics

    moved, metrics = take_steps(params)
    assert moved < 1e-6 and metrics["loss"] < 1e-6 and metrics["grad_norm"] < 1e-6
    moved, metrics = take_steps(make_params(module, seed=1))
    assert moved > 0.01 and metrics["loss"] > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("sam", [None, Sam(lambda step: 0.1, 0.5, group_size=ROWS)])
def test_a_teacher_costs_one_forward_pass_and_no_backward_pass(sam):
    """By the multiplications of a traced step; also where SAM has two passes."""
    module, teacher = make_module(), make_module(num_blocks=3, dropout_rate=0.5)

    def count(*teachers):
        step = make_train_step(
            module, optax.sgd(0.1), loss="softmax", sam=sam, mixup=Mixup(1.0),
            teacher=teachers[0] if teachers else None,
        )  # fmt: skip
        batch = {"image": np.zeros((1, ROWS, 8, 8, 3), np.uint8), "label": np.zeros((1, ROWS), int)}

        def local(batch, params, *teacher_params):
            return jax.vmap(
                lambda batch: step.local(params, batch, jnp.int32(0), "d", *teacher_params),
                axis_name="d",
            )(batch)

        params = (init(each) for each in (module, *teachers))
        return compiler._macs(jax.make_jaxpr(local)(batch, *params))

    assert count(teacher) - count() == ROWS * compiler.macs(teacher)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit", "bit", "permuted"])
def test_other_models_than_mixers_may_teach(kind):
    config = load_config("digits")
    config.teacher, config.label_smoothing = "somewhere", 0.0
    student = make_model(config, 10)
    if kind == "permuted":
        teacher = Permuted(student.clone(num_blocks=1), "pixels", (2, 2))
    else:
        widths = dict(
            vit=dict(patch_size=(4, 4), num_blocks=1, hidden_dim=8, mlp_dim=8, num_heads=2),
            bit=dict(stages=(1,), width=8, groups=4, stem="3x3"),
        )
        with config.unlocked():
            other = config.copy_and_resolve_references()
        other.architecture, other.model = kind, ml_collections.ConfigDict(widths[kind])
        teacher = make_model(other, 10)
    config.dtype = "bfloat16"
    recipe = make_recipe(config, 10, 1437, teacher_module=teacher)
    state, params = recipe.state_shapes(), jax.eval_shape(lambda: init(teacher))
    batch = {
        "image": jax.ShapeDtypeStruct((128, 8, 8, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((128,), jnp.int32),
    }
    step = recipe.layout.jit_step(recipe.step, state, params)
    after, metrics = jax.eval_shape(step, state, batch, params)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert "bf16" in str(jax.make_jaxpr(step)(state, batch, params))
    assert metrics.keys() == {"loss", "accuracy", "grad_norm"}


# --- what a teacher is ---


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """A classifier of digits whose classes are known, and in another order than the data's."""
    config = load_config("digits")
    config.model.update(num_blocks=1, hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=8)
    module = make_model(config, 10)
    params = make_params(module)
    path = tmp_path_factory.mktemp("teacher") / "teacher.npz"
    mlp_mixer.save(path, module, params, class_names=DIGITS[::-1])
    return path, module, params


def config_of(source, **fields):
    config = load_config("digits")
    config.update(dict(teacher=str(source), label_smoothing=0.0) | fields)
    return config


def test_a_teachers_outputs_are_those_of_the_same_names(teacher_file):
    path, module, params = teacher_file
    found = load_teacher(config_of(path), DIGITS)
    for name, x in params["head"].items():
        np.testing.assert_array_equal(found.params["head"][name], x[..., ::-1])
    np.testing.assert_array_equal(found.params["stem"]["kernel"], params["stem"]["kernel"])
    assert found.module == module_of(str(path)) and found.module.image_size == module.image_size
    assert load_teacher(config_of(""), DIGITS) is None
    assert found.sha256 != load_teacher(config_of(path), DIGITS[::-1]).sha256


def test_a_teacher_sees_the_pixels_in_its_own_range(teacher_file, tmp_path):
    """Here with ImageNet's mean and deviation, while students see them from -1 to 1."""
    path, module, params = teacher_file
    mean, deviation = 0.485, 0.229
    path = shutil.copy(path, tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        said = metadata.decode(archive.comment.decode(), "it")
        said |= {"pixel_range": [(x - mean) / deviation for x in (0, 1)]}
        archive.comment = metadata.encode(said).encode()
    found = load_teacher(config_of(path), DIGITS[::-1])
    pixels = np.random.default_rng(2).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    own = module.apply({"params": params}, jnp.float32((pixels / 255 - mean) / deviation))
    np.testing.assert_allclose(forward(found.module, found.params, pixels), own, atol=1e-5)
    assert np.abs(forward(module, params, pixels) - own).max() > 0.01


@pytest.mark.parametrize(
    ("fields", "classes", "message"),
    [
        (dict(loss="sigmoid"), DIGITS, r"loss=sigmoid.*set --config\.loss=softmax"),
        (dict(label_smoothing=0.1), DIGITS, r"label_smoothing=0\.1.*--config\.label_smoothing=0"),
        (dict(image_size=(16, 16)), DIGITS,
         r"takes 8x8 pixels of 1 channel.* are 16x16 pixels .*the same crop.*mlp-mixer convert"),
        (dict(image_channels=3), DIGITS, r"8x8 pixels of 1 channel.* are 8x8 pixels of 3 channel"),
        ({}, "abc", r"teacher=.*npz.*'a', 'b', 'c'.*must have the classes of the data: fine-tune"),
    ],
)  # fmt: skip
def test_a_teacher_that_does_not_fit_is_refused(teacher_file, fields, classes, message):
    config = config_of(teacher_file[0], **fields)
    with pytest.raises(ValueError, match=message):
        teacher = load_teacher(config, tuple(classes))
        make_recipe(config, len(classes), 1437, teacher_module=teacher.module)


def test_a_recipe_asks_for_the_model_of_its_teacher(teacher_file):
    with pytest.raises(ValueError, match=r"teacher=.*load_teacher.*as teacher_module"):
        make_recipe(config_of(teacher_file[0]), 10, 1437)


def test_a_teacher_that_is_not_there_is_named_as_the_teacher():
    with pytest.raises(FileNotFoundError, match=r"teacher=nosuch\.npz: no file nosuch\.npz"):
        load_teacher(config_of("nosuch.npz"), DIGITS)


def test_a_teacher_without_a_head_is_refused(teacher_file, tmp_path):
    _, module, params = teacher_file
    headless = {name: x for name, x in params.items() if name != "head"}
    mlp_mixer.save(tmp_path / "body.npz", module.clone(num_classes=0), headless)
    with pytest.raises(ValueError, match=r"teacher=.*body\.npz has no head"):
        load_teacher(config_of(tmp_path / "body.npz"), DIGITS)


def test_the_model_of_published_weights_is_known_without_them():
    module = module_of("hf://timm/mixer_b16_224.miil_in21k_ft_in1k")
    assert (module.hidden_dim, module.num_classes, module.image_size) == (768, 1000, (224, 224))
    assert module_of("imagenet21k/Mixer-L_16").num_classes == 21_843


# --- a run ---


@pytest.mark.slow
def test_a_run_resumes_exactly_and_with_its_teacher_only(tiny_config, finished, tmp_path):
    """With all else that a step may have."""
    tiny_config.sam.update(rho_max=0.1, rho_min=0.05, alpha=0.3)
    tiny_config.update(ema=0.5, layer_decay=0.7, mixup=1.0, cutmix=1.0, mixup_per_example=True)
    tiny_config.update(drop_schedule="late", drop_steps=2, accum_steps=4)
    tiny_config.model.update(stoch_depth=0.5, dropout_rate=0.1)
    teacher = finished.copy(tmp_path / "teacher")
    tiny_config.teacher, tiny_config.label_smoothing = str(teacher), 0.0
    tiny_config.log_every_steps = 1
    workdir = tmp_path / "run"
    run = mlp_mixer.train(tiny_config, workdir)
    before, lines = run.params(), run.metrics
    saved = json.loads((workdir / "checkpoints" / "6" / "arrays.json").read_text())["arrays"]
    # Parameters, their two moments and their average.
    assert len([name for name in saved if name.endswith("stem/kernel")]) == 4
    record = json.loads((workdir / TEACHER_FILE).read_text())
    assert record["source"] == str(teacher)

    def resume_with(source):
        shutil.rmtree(workdir / "checkpoints" / "6", ignore_errors=True)
        tiny_config.teacher = str(source)
        return mlp_mixer.train(tiny_config, workdir)

    moved = shutil.move(teacher / "model.npz", tmp_path / "moved.npz")
    again = resume_with(moved)
    jax.tree.map(np.testing.assert_array_equal, again.params(), before)
    for name in ("train/loss", "train/surrogate_gap", "ema_test/loss"):
        have, want = ([line[name] for line in x if name in line] for x in (again.metrics, lines))
        assert have == want and len(want) >= 2, name
    for source, message in (
        (finished.workdir / "checkpoints" / "3", r"is .*moved\.npz \(sha256 .*now it is .*/3 \("),
        ("", r"is .*moved\.npz \(sha256 .*; now it is none\. Continue with the teacher"),
    ):
        with pytest.raises(ValueError, match=message):
            resume_with(source)


def test_a_run_with_labels_does_not_go_on_with_a_teacher(tmp_path):
    teacher = Teacher("there", None, None, "f" * 64)
    resume.check_teacher(tmp_path, None, 3)
    with pytest.raises(ValueError, match=r"teacher is none; now it is there \(sha256 ffff"):
        resume.check_teacher(tmp_path, teacher, 3)
    resume.check_teacher(tmp_path, teacher, 0)  # nothing was trained without it yet


def test_processes_that_read_different_teachers_are_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(resume.jax, "process_count", lambda: 2)
    others = SimpleNamespace(process_allgather=lambda mine: np.array([mine, mine + 1]))
    monkeypatch.setattr(resume, "multihost_utils", others)
    with pytest.raises(ValueError, match=r"teacher=there is not the same in all.* process 1 found"):
        resume.check_teacher(tmp_path, Teacher("there", None, None, "0" * 64), 0)
