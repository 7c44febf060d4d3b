"""Every field of a config: its possible values, and whether a run may continue with another one.

`check` is called before anything starts, wherever a config comes from. Defaults and meanings are in
configs/common.py.
"""

import difflib
import re
from collections.abc import Collection, Iterator
from typing import Any

import ml_collections
import numpy as np

from mlp_mixer.data.augment import RANDAUGMENTS, Augment
from mlp_mixer.data.autoaugment import POLICIES
from mlp_mixer.data.images import CROPS
from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.models.bit import STEMS
from mlp_mixer.models.gelu import FORMS as GELUS
from mlp_mixer.models.losses import LOSSES
from mlp_mixer.models.permuted import ORDERS
from mlp_mixer.runs.folder import AVERAGE_PREFIX
from mlp_mixer.runs.trackers import TRACKERS
from mlp_mixer.training import ranges
from mlp_mixer.training.layouts import LAYOUTS, SUM_DTYPES
from mlp_mixer.training.optimizer import DECAYS, OPTIMIZERS
from mlp_mixer.weights.resize import SCHEMES

FIELDS = {
    "seed": ranges.whole(0, 2**32 - 1),
    # The data may move; its digest tells whether it is the same (training.resume).
    "data.source": ranges.free(ranges.NAME),
    "data.train_split": ranges.NAME,
    "data.examples_per_class": ranges.COUNT_OR_NONE,
    "data.in_memory": ranges.FLAG,
    "data.workers": ranges.free(ranges.COUNT_OR_NONE),
    "data.skip_broken": ranges.free(ranges.FLAG),
    "image_size": ranges.SIZE,
    "image_channels": ranges.one_of((1, 3)),
    "architecture": ranges.one_of(tuple(ARCHITECTURES)),
    "dtype": ranges.one_of(("auto", "float32", "bfloat16")),
    "permuted.order": ranges.one_of(("original", *ORDERS)),
    "permuted.patch_size": ranges.SIZE,
    "permuted.seed": ranges.whole(0, 2**32 - 1),
    "init_from": ranges.TEXT,
    "init_head": ranges.one_of(("auto", "new", "keep")),
    "init_head_bias": ranges.number(-100, 0),
    "init_image_size": ranges.SIZE_OR_NONE,
    "init_patch_size": ranges.SIZE_OR_NONE,
    "init_resize": ranges.one_of(SCHEMES),
    "batch_size": ranges.COUNT,
    "total_epochs": ranges.NOT_NEGATIVE,
    "total_steps": ranges.COUNT_OR_NONE,
    "optimizer": ranges.one_of(OPTIMIZERS),
    "lr": ranges.NOT_NEGATIVE,
    "decay": ranges.one_of(tuple(DECAYS)),
    "decay_end": ranges.SHARE,
    "warmup_epochs": ranges.NOT_NEGATIVE,
    "warmup_steps": ranges.COUNT_OR_NONE,
    "weight_decay": ranges.NOT_NEGATIVE,
    "drop_schedule": ranges.one_of(("constant", "early", "late")),
    "drop_epochs": ranges.NOT_NEGATIVE,
    "drop_steps": ranges.COUNT_OR_NONE,
    "layer_decay": ranges.number(0, 1, over=True),
    "grad_clip": ranges.NOT_NEGATIVE,
    "ema": ranges.RATE,
    "loss": ranges.one_of(tuple(LOSSES)),
    "label_smoothing": ranges.RATE,
    "mixup": ranges.NOT_NEGATIVE,
    "cutmix": ranges.NOT_NEGATIVE,
    "cutmix_probability": ranges.SHARE,
    "mixup_per_example": ranges.FLAG,
    "sam.rho_max": ranges.NOT_NEGATIVE,
    "sam.rho_min": ranges.NOT_NEGATIVE,
    "sam.alpha": ranges.NOT_NEGATIVE,
    "sam.group_size": ranges.COUNT,
    # As with the data, its digest tells whether it is the same.
    "teacher": ranges.free(ranges.TEXT),
    "layout": ranges.free(ranges.one_of(tuple(LAYOUTS))),
    "accum_steps": ranges.free(ranges.COUNT_OR_NONE),
    "remat": ranges.free(ranges.FLAG),
    "sum_dtype": ranges.one_of(tuple(SUM_DTYPES)),
    "eval_crop": ranges.free(ranges.one_of(tuple(CROPS))),
    "eval_crop_fraction": ranges.free(ranges.number(0, 1, over=True)),
    "eval_every_epochs": ranges.free(ranges.NOT_NEGATIVE),
    "eval_every_steps": ranges.free(ranges.COUNT_OR_NONE),
    "log_every_steps": ranges.free(ranges.COUNT),
    "sheet_examples": ranges.free(ranges.COUNT_OR_NONE),
    "profile_steps": ranges.free(ranges.COUNT_OR_NONE),
    "checkpoint_every_epochs": ranges.free(ranges.NOT_NEGATIVE),
    "checkpoint_every_steps": ranges.free(ranges.COUNT_OR_NONE),
    "keep_checkpoints": ranges.free(ranges.COUNT),
    "keep_best": ranges.free(ranges.TEXT),
    "tracker": ranges.free(ranges.one_of(("", *TRACKERS))),
}

# The fields of AUGMENT, MODEL and SWEEP are optional.
AUGMENT = {
    "inception_crop": ranges.SHARE,
    "random_crop": ranges.SHARE,
    "rotate": ranges.number(0, 180),
    "zoom": ranges.NOT_NEGATIVE,
    "shift": ranges.NOT_NEGATIVE,
    "pad_crop": ranges.COUNT_OR_NONE,
    "flip": ranges.FLAG,
    "autoaugment": ranges.one_of(("", *POLICIES)),
    "randaugment_layers": ranges.COUNT_OR_NONE,
    "randaugment_magnitude": ranges.NOT_NEGATIVE,
    "randaugment_form": ranges.one_of(tuple(RANDAUGMENTS)),
    "randaugment_std": ranges.NOT_NEGATIVE,
    "color_jitter": ranges.SHARE,
    "random_erasing": ranges.SHARE,
}
MODEL = {
    "variant": ranges.NAME,
    "patch_size": ranges.SIZE,
    "stoch_depth": ranges.SHARE,
    "stoch_depth_rescale": ranges.FLAG,
    "dropout_rate": ranges.RATE,
    "gelu": ranges.one_of(tuple(GELUS)),
    "stages": ranges.several(ranges.COUNT, "numbers"),
    "stem": ranges.one_of(STEMS),
    **dict.fromkeys(
        ("num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"), ranges.COUNT
    ),
    **dict.fromkeys(("mlp_dim", "num_heads", "width", "groups"), ranges.COUNT),
}
SWEEP = {
    "learning_rates": ranges.free(ranges.several(ranges.number(0, over=True), "rates")),
    "train_split": ranges.free(ranges.NAME),
    "dev_split": ranges.free(ranges.NAME),
}
# Fields of evaluators; `evaluation.evaluators` knows the types and which fields each has.
EVALUATOR = {
    "type": ranges.NAME,
    "enabled": ranges.FLAG,
    "only_at_end": ranges.FLAG,
    "split": ranges.NAME,
    "train_split": ranges.NAME,
    "source": ranges.TEXT,
    "crop": ranges.one_of(("", *CROPS)),
    "crop_fraction": ranges.SHARE,
    "shots": ranges.several(ranges.COUNT, "numbers"),
}

# Names that other libraries give to fields, by the last part of a dotted name.
SYNONYMS = {
    "learning_rate": "lr",
    **dict.fromkeys(("epochs", "num_epochs"), "total_epochs"),
    **dict.fromkeys(("steps", "num_steps", "max_steps"), "total_steps"),
    **dict.fromkeys(("depth", "num_layers"), "model.num_blocks"),
    **dict.fromkeys(("width", "embed_dim"), "model.hidden_dim"),
    "wd": "weight_decay",
    "warmup": "warmup_epochs",
    **dict.fromkeys(("bs", "batchsize"), "batch_size"),
}
# Values that other libraries have, and what is the same here.
EQUIVALENTS = {
    ("optimizer", "sgd"): "momentum, which is SGD with a momentum of 0.9",
    ("optimizer", "adamw"): "adam, which with weight_decay is AdamW",
}

# Arguments that `training.recipe` passes to a model besides config.model.
_FROM_ELSEWHERE = {"num_classes", "image_size", "image_channels", "head_bias", "dtype", "remat"}

# Fields that configs of the first version lack, with the values that are equivalent.
ADDED = {
    "permuted.order": "original",
    "permuted.patch_size": (16, 16),
    "permuted.seed": 0,
    "init_from": "",
    "init_head": "auto",
    "init_head_bias": 0.0,
    "init_image_size": (),
    "init_patch_size": (),
    "init_resize": "auto",
    "keep_best": "",
    "tracker": "",
    "sam.rho_max": 0.0,
    "sam.rho_min": 0.0,
    "sam.alpha": 0.0,
    "sam.group_size": 64,
    "cutmix": 0.0,
    "cutmix_probability": 0.5,
    "drop_schedule": "constant",
    "drop_epochs": 0.0,
    "drop_steps": 0,
    "layer_decay": 1.0,
    "sheet_examples": 500,
    "ema": 0.0,
    "teacher": "",
}
# Fields that a run takes from the weights of its init_from; see `initial.with_trained_sizes`.
OF_THE_WEIGHTS = ("init_image_size", "init_patch_size", "model.tokens_mlp_dim")
# Optional fields, with the values that are equivalent to leaving them out.
UNSET = {f"augment.{name}": getattr(Augment, name) for name in AUGMENT} | {
    "model.stoch_depth": 0.0, "model.stoch_depth_rescale": False,
    "model.dropout_rate": 0.0, "model.gelu": "tanh"
}  # fmt: skip


def check(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Checks every field of a config, and returns the config as it will be used, locked.

    Sizes become pairs, and fields that were added after the config was written are filled in.

    Raises:
        ValueError: fields are unknown, missing or out of range; names all of them.
    """
    flat = completed(config.to_dict())
    known = _known(flat)
    has_sweep = any(name.startswith("sweep.") for name in flat)
    offered = [name for name in known if has_sweep or not name.startswith("sweep.")]
    problems = [_unknown(name, offered) for name in flat if name not in known]
    problems += [f"{name} is missing" for name in FIELDS if name not in flat]
    problems += [
        _refused(name, value, known[name])
        for name, value in flat.items()
        if name in known and not known[name].allows(value)
    ]
    evals = config.to_dict().get("evals")
    problems += [
        f"evals.{name} has no type, such as classification"
        for name, evaluator in (evals.items() if isinstance(evals, dict) else ())
        if not isinstance(evaluator, dict) or not evaluator.get("type")
    ]
    problems += [
        f"evals.{name} needs another name: {whose} as {name}/accuracy and the like"
        for name in (evals if isinstance(evals, dict) else ())
        for whose in _other_scalars(name, evals)
    ]
    if problems:
        raise ValueError(f"config (configs/common.py explains each field): {'; '.join(problems)}")
    return _as_config(flat).lock()


def _other_scalars(name: str, evals: dict[str, Any]) -> Iterator[str]:
    """Yields what else writes scalars NAME/..., which would be taken for the evaluator's."""
    if name == "train":
        yield "training reports its own scalars"
    if name.startswith(AVERAGE_PREFIX) and name.removeprefix(AVERAGE_PREFIX) in evals:
        yield f"evals.{name.removeprefix(AVERAGE_PREFIX)} reports the averaged parameters"


def restored(config: dict[str, Any]) -> ml_collections.ConfigDict:
    """Returns the config that a run has written as JSON, with optional fields filled in."""
    flat = completed(config)
    known = _known(flat)
    return _as_config({name: x for name, x in UNSET.items() if name in known} | flat)


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a config's fields by dotted name, with those of ADDED, lists as tuples or pairs."""
    flat = {name: _plain(value) for name, value in flatten(config).items()}
    flat |= {name: value for name, value in ADDED.items() if flat.get(name) is None}
    known = _known(flat)
    return {
        name: _as_pair(value) if known.get(name) in (ranges.SIZE, ranges.SIZE_OR_NONE) else value
        for name, value in flat.items()
    }


def changes_training(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns the fields in which two configs (nested dicts) would train differently.

    Returns:
        (dotted name, value before, value now) of each field.
    """
    before, now = completed(before), completed(now)
    known = _known(before) | _known(now)
    # init_head does not matter to a run that began without weights.
    no_matter = OF_THE_WEIGHTS if now["init_from"] else ("init_head",)
    if before["permuted.order"] == now["permuted.order"] == "original":
        no_matter = (*no_matter, "permuted.patch_size", "permuted.seed")
    if not before["sam.rho_max"] and not now["sam.rho_max"]:
        no_matter = (*no_matter, "sam.group_size")
    changed = []
    for name in sorted(before.keys() | now.keys()):
        values = [side.get(name, UNSET.get(name, "absent")) for side in (before, now)]
        is_free = name.startswith("evals.") or (name in known and known[name].may_change)
        if values[0] != values[1] and not is_free and name not in no_matter:
            changed.append((name, *values))
    return changed


def _known(flat: dict[str, Any]) -> dict[str, ranges.Field]:
    """Returns the fields that a config may have, by dotted name."""
    known = dict(FIELDS)
    known |= {f"augment.{name}": field for name, field in AUGMENT.items()}
    found = ARCHITECTURES.get(str(flat.get("architecture")), ARCHITECTURES["mixer"])
    own = {"variant", *found.module.__dataclass_fields__} - _FROM_ELSEWHERE - {"parent", "name"}
    known |= {f"model.{name}": MODEL[name] for name in own}
    known |= {f"sweep.{name}": field for name, field in SWEEP.items()}
    for name in flat:
        if name.startswith("evals."):
            field = name.rpartition(".")[2]
            known[name] = EVALUATOR.get(field, ranges.Field("anything", lambda value: True))
    return known


def _unknown(name: str, known: Collection[str]) -> str:
    return f"there is no field {name}{did_you_mean(name, known)}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Returns the end of an error message: which field was meant; "" if none is similar."""
    # A slip of the keyboard comes first: sweep.learning_rate is not lr where there is a sweep.
    slips = difflib.get_close_matches(name, known, 1, cutoff=0.9)
    field = slips[0] if slips else synonym(name, known)
    if not field:
        field = next(iter(difflib.get_close_matches(name, known, 1)), "")
    return f"; did you mean {field}?" if field else ""


def synonym(name: str, known: Collection[str]) -> str:
    """Returns the field for which other libraries have a name; "" if it is not among `known`."""
    field = SYNONYMS.get(name.rpartition(".")[2].lower(), "")
    return field if field in known else ""


def misread(name: str, text: str, config: ml_collections.ConfigDict) -> str:
    """Returns an error message for text that a field cannot be; "" if its range is not known."""
    field = _known(flatten(config.to_dict())).get(name)
    return _refused(name, text, field) if field and not field.allows(text) else ""


def _refused(name: str, value: Any, field: ranges.Field) -> str:
    instead = EQUIVALENTS.get((name, str(value).lower()), "")
    hint = f" (write {instead})" if instead else ""
    return f"{name} is {value!r}; it may be {field.may_be}{hint}"


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts into one with dotted names; empty dicts vanish."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat |= {prefix + key: value} if nested is None else nested
    return flat


def _plain(value: Any) -> Any:
    """Converts lists to tuples, and NumPy's numbers to Python's."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _as_pair(value: Any) -> Any:
    """Converts a size in pixels, such as 224, (224,), "224" or "160x256", to (height, width)."""
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+)(?:x(\d+))?", value)):
        return int(found[1]), int(found[2] or found[1])
    return (value, value) if isinstance(value, int) else value


def _as_config(flat: dict[str, Any]) -> ml_collections.ConfigDict:
    """Makes a config from fields by dotted name."""
    tree: dict[str, Any] = {"augment": {}, "evals": {}, "model": {}}
    for name, value in flat.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return ml_collections.ConfigDict(tree)
