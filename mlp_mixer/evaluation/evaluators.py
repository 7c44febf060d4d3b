"""The evaluations that a config names: config.evals.NAME = {type, ...its own fields}.

An evaluator is any object whose `run(params)` returns scalars. To add one, write a class with a
`from_config(config, module, mesh, class_names, **fields)`, whose keyword arguments are the fields
that a config may set, and give it a row in TYPES. See docs/evaluation.md.
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
        """Scalars, each under its name."""


class Scheduled(NamedTuple):
    """An evaluator, and whether it runs only after the last step."""

    evaluator: Evaluator
    only_at_end: bool


TYPES: dict[str, Any] = {"classification": Classification, "fewshot": FewShot}

# Fields of every evaluator; the others are arguments of its from_config.
COMMON = ("type", "enabled", "only_at_end")


def make(
    config: ml_collections.ConfigDict, module: Any, mesh: Mesh, class_names: Sequence[str]
) -> dict[str, Scheduled]:
    """The evaluators of a config, by name.

    `class_names` are those of the run: what the outputs of the module are.

    Raises:
        ValueError: one is not possible; names it.
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
    except TypeError as error:  # a field that there is not, or one that is missing
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
    """The scalars of those that are due, as NAME/SCALAR.

    Raises:
        ValueError: one failed; says which, and at what step.
    """
    result: dict[str, float] = {}
    for name, (evaluator, only_at_end) in evaluators.items():
        if only_at_end and not is_last:
            continue
        try:
            values = evaluator.run(params)
        except (ValueError, OSError, RuntimeError) as error:  # others are bugs
            raise ValueError(
                f"evaluator {name!r} failed at step {step}: {error}. The same command tries it "
                f"again; with --config.evals.{name}.enabled=False it goes on without it"
            ) from error
        result |= {f"{name}/{scalar}": value for scalar, value in values.items()}
    return result


def log_line(result: dict[str, float]) -> str:
    """One line for people."""
    return "  ".join(
        f"{name.replace('/', ' ')} {value:.4f}"
        for name, value in result.items()
        if not name.endswith("/examples")
    )
