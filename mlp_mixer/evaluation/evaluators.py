"""The evaluations that a config names: config.evals.NAME = {type, ...its own fields}.

An evaluator is any object whose `run(params)` returns scalars. To add one, write a class with a
`from_config` and give it a row in TYPES.
"""

from typing import Any, Protocol

import ml_collections
from jax.sharding import Mesh

from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.evaluation.fewshot import FewShot


class Evaluator(Protocol):
    """One evaluation of a model's parameters."""

    def run(self, params: Any) -> dict[str, float]:
        """Scalars, each under its name."""


TYPES = {"classification": Classification, "fewshot": FewShot}


def make(config: ml_collections.ConfigDict, module: Any, mesh: Mesh) -> dict[str, Evaluator]:
    """The evaluators of a config, by name.

    Raises:
        ValueError: one is not possible; names it.
    """
    made = {}
    for name, fields in config.evals.items():
        if not fields.get("enabled", True):
            continue
        try:
            if fields.type not in TYPES:
                raise ValueError(f"unknown type {fields.type!r}; use one of {', '.join(TYPES)}")
            made[name] = TYPES[fields.type].from_config(fields, config, module, mesh)
        except (ValueError, TypeError, OSError) as error:
            raise ValueError(f"config.evals.{name}: {error}") from error
    return made


def run(evaluators: dict[str, Evaluator], params: Any, step: int) -> dict[str, float]:
    """The scalars of all, as NAME/SCALAR.

    Raises:
        ValueError: one failed; says which, and at what step.
    """
    result = {}
    for name, evaluator in evaluators.items():
        try:
            values = evaluator.run(params)
        except Exception as error:
            raise ValueError(f"evaluator {name!r} failed at step {step}: {error}") from error
        result |= {f"{name}/{scalar}": value for scalar, value in values.items()}
    return result


def log_line(result: dict[str, float]) -> str:
    """One line for people."""
    return "  ".join(
        f"{name.replace('/', ' ')} {value:.4f}"
        for name, value in result.items()
        if not name.endswith("/examples")
    )
