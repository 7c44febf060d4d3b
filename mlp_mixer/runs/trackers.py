"""Services that are told a run's config and scalars as they come: the config's field `tracker`.

They are a convenience. metrics.jsonl has every scalar, and a service that fails costs no step.
"""

import importlib
import importlib.util
import logging
from collections.abc import Callable
from typing import Any, Protocol

import jax

from mlp_mixer.runtime.storage import AnyPath

log = logging.getLogger(__name__)

# The name of each is that of the package it needs and of the extra that installs it. Its module has
# a function start(workdir, config) -> Tracker.
TRACKERS = {"wandb": "mlp_mixer.runs.wandb_tracker"}


class Tracker(Protocol):
    """A run in a tracking service; if a method raises an exception, the service has failed."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Records scalars of a step, each under its name, without keeping training waiting."""

    def close(self, done: bool) -> None:
        """Ends what `start` has begun; `done` says whether the run came to its end."""


def is_usable(name: str) -> bool:
    """Returns whether there is a tracker of that name; False for "".

    Raises:
        ValueError: there is, but its package is not installed.
    """
    if name and importlib.util.find_spec(name) is None:
        raise ValueError(f"tracker={name} needs {name}: pip install {name}")
    return bool(name)


class Tracking:
    """A context manager that passes scalars on to a tracker, in process 0, until that fails."""

    def __init__(self, name: str, workdir: AnyPath, config: dict[str, Any]):
        """Plans to use the tracker of that name, or none for ""."""
        self._name, self._workdir, self._config = name, workdir, config
        self._tracker: Tracker | None = None

    def __enter__(self) -> "Tracking":
        if self._name and jax.process_index() == 0:
            self._try(self._start)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if tracker := self._tracker:
            self._try(lambda: tracker.close(done=kind is None))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Passes scalars of a step on."""
        if tracker := self._tracker:
            self._try(lambda: tracker.scalars(step, values))

    def _start(self) -> None:
        module = importlib.import_module(TRACKERS[self._name])
        self._tracker = module.start(self._workdir, self._config)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._tracker = None
            log.warning(
                "%s is told nothing more of this run, which goes on (%s: %s); metrics.jsonl has "
                "every scalar", self._name, type(error).__name__, error,
            )  # fmt: skip
