"""The evaluations that a config defines: config.evals.NAME = {type, ...its own fields}.

An evaluator is any object whose `run(params)` returns scalars. To add one, write a class with a
classmethod `from_config(config, module, mesh, class_names, **fields)`, whose keyword arguments are
the fields that a config may set, and add it to TYPES. See docs/reference/evaluation.md.
"""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import ml_collections
from jax.sharding import Mesh

from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.evaluation.fewshot import FewShot


class Evaluator(Protocol):
    """One evaluation of a model's parameters."""

    def run(self, params: Any) -> dict[str, float]:
        """Returns scalars by name."""


class Scheduled(NamedTuple):
    """An evaluator, and whether it runs only after the last step."""

    evaluator: Evaluator
    only_at_end: bool


TYPES: dict[str, Any] = {"classification": Classification, "fewshot": FewShot}

# Fields of every evaluator; all others are arguments of its from_config.
COMMON = ("type", "enabled", "only_at_end")


def make(
    config: ml_collections.ConfigDict, module: Any, mesh: Mesh, class_names: Sequence[str]
) -> dict[str, Scheduled]:
    """Makes the evaluators of a config, by name.

    Args:
        config: the config of a run.
        module: the model to evaluate.
        mesh: devices to compute on.
        class_names: names of the module's outputs.

    Raises:
        ValueError: an evaluator cannot be made; names it.
    """
    made = {}
    for name, fields in config.evals.items():
        if not fields.get("enabled", True):
            continue
        try:
            evaluator = _make_one(dict(fields), config, module, mesh, class_names)
        except (ValueError, TypeError, OSError) as error:
            raise ValueError(f"config.evals.{name}: {error}") from error
        made[name] = Scheduled(evaluator, fields.get("only_at_end", False))
    return made


def _make_one(fields: dict[str, Any], *run: Any) -> Evaluator:
    if (kind := fields.get("type")) not in TYPES:
        raise ValueError(f"unknown type {kind!r}; use one of {', '.join(TYPES)}")
    from_config = TYPES[kind].from_config
    own = {name: value for name, value in fields.items() if name not in COMMON}
    try:
        inspect.signature(from_config).bind(*run, **own)
    except TypeError as error:  # an unknown field, or a missing one
        parameters = list(inspect.signature(from_config).parameters.values())[len(run) :]
        needed = [p.name for p in parameters if p.default is p.empty]
        may = [p.name for p in parameters if p.default is not p.empty]
        raise ValueError(
            f"{error}; type {kind} needs {', '.join(needed)} and may have "
            f"{', '.join([*may, *COMMON[1:]])}"
        ) from error
    return from_config(*run, **own)


def run(
    evaluators: dict[str, Scheduled], params: Any, step: int, is_last: bool = True
) -> dict[str, float]:
    """Runs the evaluators that are due, and returns their scalars as NAME/SCALAR.

    Args:
        evaluators: the evaluators by name, from `make`.
        params: parameters of the model.
        step: the training step, for messages.
        is_last: whether this is the end of the run, when all evaluators are due.

    Raises:
        ValueError: an evaluator failed; says which, and at what step.
    """
    result: dict[str, float] = {}
    for name, (evaluator, only_at_end) in evaluators.items():
        if only_at_end and not is_last:
            continue
        try:
            values = evaluator.run(params)
        except (ValueError, OSError, RuntimeError) as error:  # anything else is a bug
            raise ValueError(
                f"evaluator {name!r} failed at step {step}: {error}. The same command tries it "
                f"again; with --config.evals.{name}.enabled=False it continues without it"
            ) from error
        result |= {f"{name}/{scalar}": value for scalar, value in values.items()}
    return result


def log_line(result: dict[str, float]) -> str:
    """Formats scalars as one line for the log."""
    return "  ".join(
        f"{name.replace('/', ' ')} {value:.4f}"
        for name, value in result.items()
        if not name.endswith("/examples")
    )
