"""What a config may be, and what of it may change when a run goes on."""

import ast
import json
import math
import re

import ml_collections
import numpy as np
import pytest

import mlp_mixer
from benchmarks import tpu_plans
from configs import common
from mlp_mixer.cli import config as cli_config
from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.runs.folder import CONFIG_FILE, claim, read_config
from mlp_mixer.training import fields, initial
from mlp_mixer.training.resume import check_config

from ..conftest import ROOT, load_config

# --- ranges ---


def changed(name: str, value, config: ml_collections.ConfigDict | None = None):
    """configs/digits.py, or another config, with a field set as in Python, whatever its type."""
    config = config or load_config("digits")
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({name: value})
    return config


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("seed", (-1, 2**32, 0.5, "0", True)),
        ("lr", (-0.001, math.nan, math.inf, "0.1")),
        ("grad_clip", (-1.0, math.nan)),
        ("weight_decay", (-0.1, math.inf)),
        ("label_smoothing", (-0.5, 1.0, 1.5)),
        ("mixup", (-0.2, math.nan)),
        ("decay_end", (-0.1, 2.0)),
        ("batch_size", (0, -16, 16.5)),
        ("accum_steps", (-1,)),
        ("total_steps", (-1, 2.5)),
        ("total_epochs", (-1.0, math.inf)),
        ("warmup_steps", (-1,)),
        ("log_every_steps", (0, -5)),
        ("keep_checkpoints", (0, -1)),
        ("profile_steps", (-1,)),
        ("checkpoint_every_steps", (-1,)),
        ("eval_crop_fraction", (0.0, 1.1)),
        ("eval_crop", ("middle",)),
        ("image_size", ((8, -8), 0, (8, 8, 3), (), "8x", 8.0, (8.5, 8))),
        ("image_channels", (2, 4, True)),
        ("init_image_size", (0, (8, 0), (8, 8, 8))),
        ("init_head", ("old", 1)),
        ("init_head_bias", (0.5, -math.inf, "auto")),
        ("data.source", ("", 5)),
        ("data.workers", (-1,)),
        ("data.examples_per_class", (-1,)),
        ("data.in_memory", (1, "yes")),
        ("augment.pad_crop", (-3,)),
        ("augment.random_crop", (-0.1, 1.1)),
        ("augment.rotate", (-1.0, 181.0)),
        ("model.stoch_depth", (-0.5, 1.5)),
        ("model.dropout_rate", (-0.5, 1.0)),
        ("model.num_blocks", (0, 2.5)),
        ("model.patch_size", (0, (2, -2))),
        ("model.gelu", ("relu",)),
        ("permuted.order", ("rows",)),
        ("permuted.seed", (-1,)),
        ("sam.rho_max", (-0.1, math.inf)),
        ("sam.alpha", (-0.1, math.nan)),
        ("sam.group_size", (0, 2.5)),
        ("evals.test.crop_fraction", (-0.1, 1.5)),
        ("evals.test.enabled", ("no",)),
        ("optimizer", ("sgd", 1)),
        ("dtype", ("float16",)),
        ("layout", ("fsdp2",)),
        ("sweep.learning_rates", ((), 0.1, (0.1, -0.1), (0.1, math.nan))),
        ("sweep.dev_split", ("",)),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(name, values):
    for value in values:
        config = load_config("transfer") if name.startswith("sweep") else None
        with pytest.raises(ValueError, match=rf"{name} is .*; it may be "):
            fields.check(changed(name, value, config))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("seed", (0, 2**32 - 1, np.int64(3))),
        ("lr", (1, 0, 1e-6, np.float64(0.1))),
        ("grad_clip", (0, 0.0, 5)),
        ("label_smoothing", (0, 0.99)),
        ("decay_end", (0, 1, 1.0)),
        ("total_epochs", (3,)),
        ("model.stoch_depth", (0, 1)),
        ("eval_crop_fraction", (1, 0.1)),
        ("init_image_size", ((), (8, 4))),
        ("sweep.learning_rates", ((0.1,), [1, 0.5])),
    ],
)
def test_the_ends_of_a_range_are_allowed_and_so_are_integers(name, values):
    for value in values:
        config = load_config("transfer") if name.startswith("sweep") else None
        fields.check(changed(name, value, config))


def test_all_that_is_wrong_stands_in_one_message():
    config = changed("lr", -1.0)
    config.seed = -1
    with pytest.raises(
        ValueError, match=r"lr is -1\.0; it may be a number from 0 on; seed is -1; "
    ):
        fields.check(config)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lrr", "lr"), ("augment.flp", "augment.flip"), ("data.worker", "data.workers"),
        ("model.hiden_dim", "model.hidden_dim"), ("permuted.oder", "permuted.order"),
    ],
)  # fmt: skip
def test_an_unknown_field_is_refused_with_the_nearest_known_one(typed, meant):
    with pytest.raises(ValueError, match=f"no field {typed}; did you mean {meant}"):
        fields.check(changed(typed, 1))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("learning_rate", "lr"), ("epochs", "total_epochs"), ("num_epochs", "total_epochs"),
        ("steps", "total_steps"), ("num_steps", "total_steps"), ("max_steps", "total_steps"),
        ("depth", "model.num_blocks"), ("num_layers", "model.num_blocks"),
        ("width", "model.hidden_dim"), ("embed_dim", "model.hidden_dim"), ("wd", "weight_decay"),
        ("warmup", "warmup_epochs"), ("bs", "batch_size"), ("batchsize", "batch_size"),
        ("model.Depth", "model.num_blocks"), ("data.LEARNING_RATE", "lr"),
    ],
)  # fmt: skip
def test_a_name_of_another_library_is_told_the_field(theirs, ours):
    with pytest.raises(ValueError, match=rf"no field {theirs}; did you mean {ours}\?"):
        fields.check(changed(theirs, 1))
    with pytest.raises(ValueError, match=rf"no field {theirs}; did you mean {ours}\?"):
        cli_config.load("digits", [f"--config.{theirs}=1"])
    with pytest.raises(ValueError, match=rf"no field {theirs}; did you mean {ours}\?"):
        mlp_mixer.config("digits", **{theirs: 1})


def test_only_fields_that_the_config_has_are_suggested():
    bit = load_config("permutation", "cifar10,bit,patches")
    with pytest.raises(ValueError, match=r"no field embed_dim(?!; did)"):
        fields.check(changed("embed_dim", 1, bit))
    with pytest.raises(ValueError, match=r"no field embed_dim(?!; did)"):
        cli_config.load("permutation:cifar10,bit,patches", ["--config.embed_dim=1"])
    with pytest.raises(ValueError, match=r"no field learning_rates(?!; did)"):
        fields.check(changed("learning_rates", 1))
    with pytest.raises(ValueError, match=r"no field learning_rates(?!; did)"):
        cli_config.load("digits", ["--config.learning_rates=1"])
    for name in ("learning_rates", "sweep.learning_rate"):
        with pytest.raises(ValueError, match=r"did you mean sweep\.learning_rates\?"):
            fields.check(changed(name, 1, load_config("transfer")))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("sgd", "momentum"), ("SGD", "momentum"), ("adamw", "adam, which with weight_decay")],
)
def test_an_optimizer_of_another_library_is_told_the_same(theirs, ours):
    with pytest.raises(ValueError, match=rf"'{theirs}'; it may be .* or muon \(write {ours}"):
        fields.check(changed("optimizer", theirs))


def test_a_field_of_another_architecture_is_refused():
    with pytest.raises(ValueError, match=r"no field model\.num_heads"):
        fields.check(changed("model.num_heads", 2))


def test_a_config_without_a_field_is_refused():
    config = load_config("digits")
    del config["optimizer"]
    with pytest.raises(ValueError, match="optimizer is missing"):
        fields.check(config)


@pytest.mark.parametrize("name", ["image_size", "init_image_size", "model.patch_size"])
@pytest.mark.parametrize("text", ["4", "(4,4)", "4x4", "(4,)"])
def test_one_number_is_a_square_on_the_command_line(name, text):
    config = cli_config.load("configs/digits.py", [f"--config.{name}={text}"])
    assert fields.flatten(fields.check(config).to_dict())[name] == (4, 4)


def test_one_number_is_a_square_and_a_pair_is_height_and_width():
    for value, pair in ((16, (16, 16)), (np.int32(16), (16, 16)), ([16, 24], (16, 24))):
        assert fields.check(changed("image_size", value)).image_size == pair
    config = cli_config.load("configs/digits.py", ["--config.image_size=16x24"])
    assert fields.check(config).image_size == (16, 24)


@pytest.mark.parametrize(
    ("texts", "pair"),
    [
        (["32", "48"], (48, 48)), (["(8,8)", "16x24"], (16, 24)), (["160x256"], (160, 256)),
        (["(160,256)"], (160, 256)),
    ],
)  # fmt: skip
def test_of_a_repeated_size_the_last_counts(texts, pair):
    config = cli_config.load("digits", [f"--config.image_size={text}" for text in texts])
    assert fields.check(config).image_size == pair


def test_of_any_repeated_field_the_last_counts():
    given = [
        "--config.sweep.learning_rates=0.1", "--config.lr=0.1", "--config.augment.flip=True",
        "--config.sweep.learning_rates=(0.3,0.4)", "--config.lr=0.2", "--config.augment.flip=False",
    ]  # fmt: skip
    config = cli_config.load("transfer", given)
    assert config.sweep.learning_rates == (0.3, 0.4)
    assert (config.lr, config.augment.flip) == (0.2, False)


def test_one_number_is_a_square_in_python_too():
    config = mlp_mixer.config("digits", image_size=16, **{"model.patch_size": 4})
    assert (config.image_size, config.model.patch_size) == ((16, 16), (4, 4))
    assert mlp_mixer.config("digits", image_size=[16, 24]).image_size == (16, 24)


# --- the table is whole ---


def every_config():
    """Each config of configs/ with each of the arguments that are planned for."""
    for name, argument, _ in tpu_plans.named():
        yield load_config(name, argument or None)
    for model in ("mixer", "bit"):
        for data in ("cifar10", "imagenet"):
            yield load_config("permutation", f"{data},{model},original")
    for data in ("imagenet", "place", "vtab:pets"):
        yield load_config("transfer", f"{'digits' if data == 'place' else 'B/16'},{data}")


def test_every_shipped_config_passes_the_check_unchanged():
    for config in every_config():
        checked = fields.check(config)
        assert fields.flatten(checked.to_dict()) == fields.flatten(config.to_dict())


def test_every_field_stands_in_every_config():
    for config in (common.base(), *every_config()):
        assert fields.flatten(config.to_dict()).keys() >= fields.FIELDS.keys()


def read_of_configs() -> set[str]:
    """The fields that the code reads, as config.NAME, config.NAME.NAME or by a duration's name."""
    found = set()
    for path in (ROOT / "mlp_mixer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "optimizer.steps":
                found |= {f"{node.args[1].value}_{unit}" for unit in ("steps", "epochs")}
            if isinstance(node, ast.Attribute):
                text = ast.unparse(node).removeprefix("self._").removeprefix("args.")
                found |= set(re.findall(r"^config\.(\w+(?:\.\w+)?)$", text))
    return found


# Read under other names than config.NAME: data = config.data, sam = config.sam, **config.permuted.
BY_OTHER_NAMES = {
    "data.examples_per_class", "data.train_split",
    "permuted.order", "permuted.patch_size", "permuted.seed",
    "sam.rho_min", "sam.alpha", "sam.group_size",
}  # fmt: skip
SECTIONS = {"data", "augment", "model", "permuted", "sam", "evals", "sweep"}
# Of ConfigDict, dict and str, as in config.data.source.partition.
METHODS = {*dir(ml_collections.ConfigDict), *dir(dict), *dir(str)}


def test_the_table_of_fields_holds_exactly_those_that_are_read():
    read = read_of_configs()
    table = fields.FIELDS.keys() | {f"sweep.{name}" for name in fields.SWEEP}
    assert table - read <= BY_OTHER_NAMES
    unknown = {name for name in read - table if name.split(".")[-1] not in METHODS}
    assert unknown <= SECTIONS


def test_the_table_has_every_field_of_models_and_augmentation():
    modules = {name: found.module for name, found in ARCHITECTURES.items()}
    for name, module in modules.items():
        own = {"variant", *module.__dataclass_fields__} - {"parent", "name"}
        assert own - fields._FROM_ELSEWHERE <= fields.MODEL.keys(), name
    everything = set().union(*(module.__dataclass_fields__ for module in modules.values()))
    assert fields.MODEL.keys() <= everything | {"variant"}
    assert fields.AUGMENT.keys() == fields.Augment.__dataclass_fields__.keys() - {"size"}
    assert fields.AUGMENT.keys() == set(common.base().augment)


# --- going on ---


@pytest.fixture
def begun(tmp_path):
    """The workdir of a run of configs/digits.py."""
    claim(tmp_path, fields.check(load_config("digits")), tuple("0123456789"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("evals.test.enabled", False), ("evals.more", common.classification("train[:9]")),
        ("eval_crop", "resize"), ("eval_crop_fraction", 0.9), ("eval_every_epochs", 7.0),
        ("log_every_steps", 3), ("checkpoint_every_epochs", 1.0), ("keep_checkpoints", 5),
        ("profile_steps", 3), ("data.workers", 2), ("data.skip_broken", True),
        ("data.source", "folder:elsewhere"), ("layout", "fsdp"), ("accum_steps", 2),
        ("remat", True), ("init_head", "new"), ("sweep", dict(learning_rates=(0.1,))),
    ],
)  # fmt: skip
def test_what_no_trained_number_depends_on_may_change(begun, name, value):
    check_config(begun, fields.check(changed(name, value)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1), ("lr", 0.1), ("total_epochs", 120.0), ("batch_size", 64), ("mixup", 0.1),
        ("model.num_blocks", 4), ("model.gelu", "exact"), ("image_size", (16, 16)),
        ("augment.flip", True), ("augment.rotate", 0.0), ("loss", "sigmoid"),
        ("data.train_split", "train[:50%]"), ("data.in_memory", False), ("dtype", "bfloat16"),
        ("sum_dtype", "bfloat16"), ("permuted.order", "pixels"), ("init_from", "OTHER"),
        ("init_image_size", (4, 4)), ("sam.rho_max", 0.5),
    ],
)  # fmt: skip
def test_what_changes_training_is_refused_with_both_values(begun, name, value):
    with pytest.raises(ValueError, match=r"(?s)another config") as error:
        check_config(begun, fields.check(changed(name, value)))
    lines = str(error.value).splitlines()
    assert lines[1].startswith(f"  {name}: ") and lines[1].endswith(f"there, {value} now")
    assert len(lines) == 3 and f"--config.init_from={begun}" in lines[2]


def test_the_config_that_is_kept_is_the_newest(begun):
    claim(begun, fields.check(changed("log_every_steps", 3)), tuple("0123456789"))
    assert read_config(begun)["log_every_steps"] == 3


def first_version(config: ml_collections.ConfigDict) -> dict:
    """What version e108a84 wrote of a config: without the fields that came later."""
    tree = json.loads(config.to_json())
    for name in ("permuted", "sam", "init_from", "init_head", "init_head_bias", "init_image_size",
                 "init_patch_size", "init_resize"):  # fmt: skip
        tree.pop(name, None)
    tree["augment"] = {name: value for name, value in tree["augment"].items() if value}
    del tree["model"]["dropout_rate"], tree["model"]["gelu"]
    return tree


def test_a_run_of_the_first_version_resumes_with_new_defaults(tmp_path):
    config = load_config("digits")
    (tmp_path / CONFIG_FILE).write_text(json.dumps(first_version(config)))
    check_config(tmp_path, fields.check(config))
    with pytest.raises(ValueError, match=r"init_from:  there, X now"):
        check_config(tmp_path, fields.check(changed("init_from", "X")))
    with pytest.raises(ValueError, match=r"augment\.flip: False there, True now"):
        check_config(tmp_path, fields.check(changed("augment.flip", True)))


def test_a_run_from_weights_resumes_whatever_size_is_given(tmp_path):
    config = changed("init_from", "gone.npz")
    before = config.copy_and_resolve_references()
    before.init_image_size, before.init_patch_size = (8, 8), (2, 2)
    claim(tmp_path, fields.check(before), tuple("0123456789"))
    for said in ((), (4, 4)):
        config = fields.check(changed("init_image_size", said, config))
        check_config(tmp_path, config)
        assert initial.with_trained_sizes(config, read_config(tmp_path)).init_image_size == (
            8,
            8,
        )


# --- WORKDIR/config.json ---


@pytest.mark.parametrize("version", ["first", "this"])
def test_the_config_of_a_run_is_a_config_again(tmp_path, version):
    config = fields.check(load_config("digits"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(first_version(config)) if version == "first" else config.to_json())
    again = fields.check(cli_config.load(str(path), []))
    assert fields.flatten(again.to_dict()) == fields.flatten(config.to_dict())
    changes = (
        "image_size=16", "augment.flip=True", "augment.zoom=0.5", "model.gelu=exact",
        "init_from=OLD", "init_patch_size=4", "total_epochs=5",
    )  # fmt: skip
    again = fields.check(cli_config.load(str(path), [f"--config.{change}" for change in changes]))
    assert again.model.gelu == "exact"
    assert (again.image_size, again.augment.flip, again.augment.zoom) == ((16, 16), True, 0.5)
    assert (again.init_from, again.init_patch_size, again.total_epochs) == ("OLD", (4, 4), 5.0)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_file_that_is_no_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"is not the config\.json of a run"):
        cli_config.load(f"{tmp_path}/config.json")


def test_an_evaluator_without_a_type_is_refused():
    for evaluator in (ml_collections.ConfigDict(), None):
        config = load_config("digits")
        with config.unlocked():
            config.evals.other = evaluator
        with pytest.raises(ValueError, match=r"evals\.other"):
            fields.check(config)


@pytest.mark.parametrize(
    ("name", "whose"),
    [("train", "training reports"), ("ema_test", "evals.test reports the averaged parameters")],
)
def test_an_evaluator_cannot_have_the_name_of_other_scalars(name, whose):
    config = load_config("digits")
    config.evals[name] = common.classification("train")
    with pytest.raises(ValueError, match=rf"evals\.{name} needs another name: {whose}"):
        fields.check(config)


def test_an_unused_permutation_may_be_another():
    config = fields.check(load_config("permutation", "cifar10,mixer,original")).to_dict()
    before = {name: value for name, value in config.items() if name != "permuted"}  # of e108a84
    assert not fields.changes_training(before, config)


def test_groups_may_be_others_only_if_nothing_is_perturbed():
    def changes(rho_max: float) -> list:
        before = fields.check(changed("sam.rho_max", rho_max))
        now = before.copy_and_resolve_references()
        now.sam.group_size = 32
        return fields.changes_training(before.to_dict(), now.to_dict())

    assert changes(0.0) == [] and changes(0.5) == [("sam.group_size", 64, 32)]


def test_a_section_that_is_none_is_refused():
    config = load_config("digits")
    config.evals = None
    with pytest.raises(ValueError, match="evals"):
        fields.check(config)
