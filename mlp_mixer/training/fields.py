"""Every field of a config: what it may be, and whether a run may go on with another value.

`check` is called before anything starts, wherever a config comes from. configs/common.py has the
defaults and says what each field means.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import ml_collections

from mlp_mixer.data.augment import Augment
from mlp_mixer.data.images import CROPS
from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.models.bit import STEMS, BiT
from mlp_mixer.models.gelu import FORMS as GELUS
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.models.permuted import ORDERS
from mlp_mixer.models.vit import VisionTransformer
from mlp_mixer.training.losses import LOSSES
from mlp_mixer.training.optimizer import DECAYS, OPTIMIZERS
from mlp_mixer.training.parallel import LAYOUTS, SUM_DTYPES
from mlp_mixer.weights.resolution import SCHEMES


class Field(NamedTuple):
    """What a field may be.

    Attributes:
        may_be: in words, for messages.
        allows: whether a value is possible.
        may_change: whether a run may go on with another value, because no number that is trained
            depends on it, but for the order in which floats are summed.
    """

    may_be: str
    allows: Callable[[Any], bool]
    may_change: bool = False


def _number(low: float = -math.inf, high: float = math.inf, **limits: bool) -> Field:
    """A number of a range; with over=True or under=True its ends do not belong to it."""
    over, under = limits.get("over", False), limits.get("under", False)

    def allows(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        inside = (low < value if over else low <= value) and (
            value < high if under else value <= high
        )
        return math.isfinite(value) and inside

    begin = f"over {low:g}" if over else f"from {low:g}"
    end = "" if high == math.inf else f" to {'under ' * under}{high:g}"
    return Field(f"a number {begin}{end or ' on'}", allows)


def _whole(low: int, high: int | None = None) -> Field:
    def allows(value: Any) -> bool:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return is_whole and low <= value and (high is None or value <= high)

    return Field(f"a whole number from {low} {'on' if high is None else f'to {high}'}", allows)


def _one_of(values: Collection[Any]) -> Field:
    listed = [str(value) for value in values]
    return Field(" or ".join([", ".join(listed[:-1]), listed[-1]]), lambda value: value in values)


def _all(one: Field, name: str) -> Field:
    """Several values of a kind."""
    return Field(
        f"one or more {name}, each {one.may_be}",
        lambda values: isinstance(values, tuple) and bool(values) and all(map(one.allows, values)),
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_whole(1).allows, value))


FLAG = Field("True or False", lambda value: isinstance(value, bool))
TEXT = Field("a text", lambda value: isinstance(value, str))
NAME = Field("a text that is not empty", lambda value: isinstance(value, str) and value != "")
SIZE = Field("pixels, such as 224 or (160, 256) for height and width", _is_pair)
SIZE_OR_NONE = Field(f"() or {SIZE.may_be}", lambda value: value == () or _is_pair(value))
SHARE = _number(0, 1)
RATE = _number(0, 1, under=True)
NOT_NEGATIVE = _number(0)
COUNT, COUNT_OR_NONE = _whole(1), _whole(0)


def _free(field: Field) -> Field:
    return field._replace(may_change=True)


FIELDS = {
    "seed": _whole(0, 2**32 - 1),
    # Where the data lies may change; that it is the same, its digest says (training.same_data).
    "data.source": _free(NAME),
    "data.train_split": NAME,
    "data.examples_per_class": COUNT_OR_NONE,
    "data.in_memory": FLAG,
    "data.workers": _free(COUNT_OR_NONE),
    "data.skip_broken": _free(FLAG),
    "image_size": SIZE,
    "image_channels": _one_of((1, 3)),
    "architecture": _one_of(tuple(ARCHITECTURES)),
    "dtype": _one_of(("auto", "float32", "bfloat16")),
    "permuted.order": _one_of(("original", *ORDERS)),
    "permuted.patch_size": SIZE,
    "permuted.seed": _whole(0, 2**32 - 1),
    "init_from": TEXT,
    "init_head": _one_of(("auto", "new", "keep")),
    "init_image_size": SIZE_OR_NONE,
    "init_patch_size": SIZE_OR_NONE,
    "init_resize": _one_of(SCHEMES),
    "batch_size": COUNT,
    "total_epochs": NOT_NEGATIVE,
    "total_steps": COUNT_OR_NONE,
    "optimizer": _one_of(OPTIMIZERS),
    "lr": _number(0, over=True),
    "decay": _one_of(tuple(DECAYS)),
    "decay_end": SHARE,
    "warmup_epochs": NOT_NEGATIVE,
    "warmup_steps": COUNT_OR_NONE,
    "weight_decay": NOT_NEGATIVE,
    "grad_clip": NOT_NEGATIVE,
    "loss": _one_of(tuple(LOSSES)),
    "label_smoothing": RATE,
    "mixup": NOT_NEGATIVE,
    "mixup_per_example": FLAG,
    "layout": _free(_one_of(tuple(LAYOUTS))),
    "accum_steps": _free(COUNT_OR_NONE),
    "remat": _free(FLAG),
    "sum_dtype": _one_of(tuple(SUM_DTYPES)),
    "eval_crop": _free(_one_of(tuple(CROPS))),
    "eval_crop_fraction": _free(_number(0, 1, over=True)),
    "eval_every_epochs": _free(NOT_NEGATIVE),
    "eval_every_steps": _free(COUNT_OR_NONE),
    "log_every_steps": _free(COUNT),
    "profile_steps": _free(COUNT_OR_NONE),
    "checkpoint_every_epochs": _free(NOT_NEGATIVE),
    "checkpoint_every_steps": _free(COUNT_OR_NONE),
    "keep_checkpoints": _free(COUNT),
}

# Those that a config need not have.
AUGMENT = {
    "inception_crop": SHARE,
    "random_crop": SHARE,
    "rotate": _number(0, 180),
    "zoom": NOT_NEGATIVE,
    "shift": NOT_NEGATIVE,
    "pad_crop": COUNT_OR_NONE,
    "flip": FLAG,
    "randaugment_layers": COUNT_OR_NONE,
    "randaugment_magnitude": NOT_NEGATIVE,
}
MODEL = {
    "variant": NAME,
    "patch_size": SIZE,
    "stoch_depth": SHARE,
    "dropout_rate": RATE,
    "gelu": _one_of(tuple(GELUS)),
    "stages": _all(COUNT, "numbers"),
    "stem": _one_of(STEMS),
    **dict.fromkeys(("num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"), COUNT),
    **dict.fromkeys(("mlp_dim", "num_heads", "width", "groups"), COUNT),
}
SWEEP = {
    "learning_rates": _free(_all(_number(0, over=True), "rates")),
    "train_split": _free(NAME),
    "dev_split": _free(NAME),
}
# Of each evaluator; `evaluation.evaluators` knows which types there are, and their other fields.
EVALUATOR = {
    "type": NAME,
    "enabled": FLAG,
    "only_at_end": FLAG,
    "split": NAME,
    "train_split": NAME,
    "source": TEXT,
    "crop": _one_of(("", *CROPS)),
    "crop_fraction": SHARE,
    "shots": _all(COUNT, "numbers"),
}

# What `training.setup` gives to a model beside config.model.
_FROM_ELSEWHERE = {"num_classes", "image_size", "image_channels", "head_bias", "dtype", "remat"}
_MODULES = {"mixer": MlpMixer, "vit": VisionTransformer, "bit": BiT}

# What was added since the first version, with what it stands for in a run that lacks it.
ADDED = {
    "permuted.order": "original",
    "permuted.patch_size": (16, 16),
    "permuted.seed": 0,
    "init_from": "",
    "init_head": "new",
    "init_image_size": (),
    "init_patch_size": (),
    "init_resize": "auto",
}
# What those stand for that a config need not have, where it has not.
UNSET = {f"augment.{name}": 0 for name in AUGMENT} | {
    "model.stoch_depth": 0.0, "model.dropout_rate": 0.0, "model.gelu": "tanh"
}  # fmt: skip


def check(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config as it will be used: every field is possible, every size a pair.

    Fields that were added after a config was written get the value that they stand for there.

    Raises:
        ValueError: fields that there are not, are lacking or out of their range; names them all.
    """
    flat = completed(config.to_dict())
    known = _known(flat)
    problems = [_unknown(name, known) for name in flat if name not in known]
    problems += [f"{name} is missing" for name in FIELDS if name not in flat]
    for name, value in flat.items():
        field = known.get(name)
        if field and not field.allows(value):
            problems.append(f"{name} is {value!r}; it may be {field.may_be}")
    if problems:
        raise ValueError(
            "config (configs/common.py explains each field): " + "; ".join(map(str, problems))
        )
    return _as_config(flat).lock()


def restored(config: dict[str, Any]) -> ml_collections.ConfigDict:
    """The config that a run has written as JSON, with all that a command line may change."""
    augment = {name: value for name, value in UNSET.items() if name.startswith("augment.")}
    return _as_config(augment | completed(config))


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """A config's fields by their dotted names, with those of ADDED, tuples and pairs."""
    flat = {name: _as_tuple(value) for name, value in flatten(config).items()}
    for name, value in ADDED.items():
        if flat.get(name) is None:
            flat[name] = value
    known = _known(flat)
    return {
        name: _as_pair(value) if known.get(name) in (SIZE, SIZE_OR_NONE) else value
        for name, value in flat.items()
    }


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names; empty ones leave nothing."""
    flat = {}
    for key, value in tree.items():
        nested = flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat |= nested if nested is not None else {prefix + key: value}
    return flat


def changes_training(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Where two configs of nested dicts would train differently: field, value before, and now."""
    before, now = completed(before), completed(now)
    known = _known(before) | _known(now)
    changed = []
    for name in sorted(before.keys() | now.keys()):
        values = [side.get(name, UNSET.get(name, "absent")) for side in (before, now)]
        free = name.startswith("evals.") or (name in known and known[name].may_change)
        from_weights = name in ("init_image_size", "init_patch_size") and values[1] == ()
        if values[0] != values[1] and not (free or from_weights):
            changed.append((name, *values))
    return changed


def _known(flat: dict[str, Any]) -> dict[str, Field]:
    """The fields that a config may have, by their dotted names."""
    known = dict(FIELDS)
    known |= {f"augment.{name}": AUGMENT[name] for name in Augment.__dataclass_fields__
              if name != "size"}  # fmt: skip
    module = _MODULES.get(flat.get("architecture"), MlpMixer)
    own = {"variant", *module.__dataclass_fields__} - _FROM_ELSEWHERE - {"parent", "name"}
    known |= {f"model.{name}": MODEL[name] for name in own}
    known |= {f"sweep.{name}": field for name, field in SWEEP.items()}
    for name in flat:
        section, _, rest = name.partition(".")
        if section == "evals" and rest:
            last = rest.rpartition(".")[2]
            known[name] = EVALUATOR.get(last, Field("anything", lambda value: True))
    return known


def _unknown(name: str, known: dict[str, Field]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"there is no field {name}" + (f"; did you mean {near[0]}?" if near else "")


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


def _as_pair(value: Any) -> Any:
    """A size in pixels as (height, width), where it is 224, (224,), "224" or "160x256"."""
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+)(?:x(\d+))?", value)):
        return int(found[1]), int(found[2] or found[1])
    return (value, value) if isinstance(value, int) else value


def _as_config(flat: dict[str, Any]) -> ml_collections.ConfigDict:
    """The config of fields by their dotted names."""
    tree: dict[str, Any] = {"augment": {}, "evals": {}, "model": {}}
    for name, value in flat.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return ml_collections.ConfigDict(tree)
