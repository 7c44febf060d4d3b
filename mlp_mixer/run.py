"""The public interface to training runs: start one, or open it by its workdir."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import jax
import ml_collections
from matplotlib.figure import Figure

from mlp_mixer.analysis import curves, sheet
from mlp_mixer.analysis.live import LiveRun
from mlp_mixer.analysis.report import Report, report
from mlp_mixer.inference.classifier import Classifier, load_classifier
from mlp_mixer.inference.measure import Evaluation, evaluate
from mlp_mixer.runs import checkpoints, folder, metrics
from mlp_mixer.runtime.notebooks import in_notebook
from mlp_mixer.runtime.storage import AnyPath, as_path, named
from mlp_mixer.training import config_files, fields, loop
from mlp_mixer.training.preemption import Stopped
from mlp_mixer.weights.load import load


def config(spec: str, **changes: Any) -> ml_collections.ConfigDict:
    """Returns the config of an experiment, with some fields changed.

    Args:
        spec: a file, or the name of a config that comes with mlp_mixer, such as "digits" or
            "transfer:B/16,cifar10", or the config.json of a run; the same as for --config.
        **changes: new values of fields; nested fields as `**{"model.num_blocks": 4}`.

    Raises:
        ValueError: there is no such config or field, or a value is out of range.
    """
    return fields.check(config_files.changed(config_files.load(spec), changes))


def train(
    config: ml_collections.ConfigDict | str, workdir: str | PathLike, *, live: bool = True
) -> "Run":
    """Trains to the end, starting from the workdir's last checkpoint if there is one.

    In a notebook, interrupting the cell saves the run, and running the cell again continues it.

    Args:
        config: the config of the experiment, or what `config` takes in its place, such as "digits".
        workdir: folder for checkpoints, metrics and weights.
        live: in a notebook, show curves that are redrawn while the run trains.

    Returns:
        The finished run.

    Raises:
        TypeError: `config` is neither a config nor the name of one.
        ValueError, FloatingPointError, OSError, SystemExit: see `training.loop.train`.
        KeyboardInterrupt: the cell of a notebook was interrupted; says at which step.
    """
    if isinstance(config, str):
        config = fields.check(config_files.load(config))
    if not isinstance(config, ml_collections.ConfigDict):
        raise TypeError(
            f"train(config, workdir): the config is a {type(config).__name__}; give one that "
            'mlp_mixer.config(...) has made, or the name of one, such as "digits"'
        )
    view = None
    if live and in_notebook() and jax.process_index() == 0:
        view = LiveRun(named(as_path(workdir)).name)
    stopped = ""
    try:
        loop.train(config, workdir, view, sheet.of_run)
    except Stopped as error:
        stopped = str(error)
    if stopped:  # anew, as a notebook keeps an error, with all arrays that its traceback leads to
        raise Stopped(stopped)
    return Run(workdir)


class Run:
    """A training run, finished or not; it may be given wherever its workdir may.

    Attributes:
        workdir: its folder.
        config: the config with which it was last started.
    """

    def __init__(self, workdir: str | PathLike):
        """Opens a run.

        Raises:
            FileNotFoundError: the folder is not the workdir of a run.
        """
        self.workdir = as_path(workdir)
        self.config = fields.restored(folder.read_config(self.workdir))

    def __repr__(self) -> str:
        state = "finished" if self.is_finished else f"at step {self.step}"
        return f"Run({str(self.workdir)!r}), {state}"

    def __fspath__(self) -> str:
        return fspath(self.workdir)

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done and the last one was evaluated."""
        return folder.is_finished(self.workdir)

    @property
    def step(self) -> int:
        """The step of the newest checkpoint; 0 if there is none."""
        return checkpoints.latest_step(self.workdir) or 0

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint by config.keep_best; None if there is none."""
        found = checkpoints.best(self.workdir)
        return found.step if found else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the model's outputs."""
        return folder.read_classes(self.workdir)

    @property
    def metrics(self) -> list[dict[str, float]]:
        """All scalars, one dict per report; pandas.DataFrame makes a table of them."""
        return metrics.read(self.workdir)

    def params(self, step: int | None = None) -> dict[str, Any]:
        """Returns the newest parameters, or those at a step that has a checkpoint."""
        return load(self._weights(step))[1]

    def classifier(self, step: int | None = None) -> Classifier:
        """Returns a classifier with the newest parameters, or those at a step; see `params`."""
        return load_classifier(self._weights(step))

    def evaluate(
        self, source: str | None = None, split: str | None = None, **how: Any
    ) -> Evaluation:
        """Evaluates the model, by default on the run's own test data.

        See `mlp_mixer.evaluate` for further arguments.
        """
        return evaluate(self.workdir, source, split, **how)

    def curves(self, scalars: Sequence[str] = ("loss", "accuracy")) -> Figure:
        """Draws scalars against the step, one panel per scalar."""
        return curves.draw([self.workdir], scalars)

    def report(self, **how: Any) -> Report:
        """Describes the run on one HTML page; see `mlp_mixer.report` for further arguments."""
        return report(self.workdir, **how)

    def _weights(self, step: int | None) -> AnyPath:
        if step is None:
            return self.workdir
        steps = checkpoints.all_steps(self.workdir)
        if step not in steps:
            raise ValueError(
                f"{self.workdir} has no checkpoint of step {step}; it has those of "
                f"{', '.join(map(str, steps)) or 'none'}"
            )
        return checkpoints.folder_of(self.workdir, step)
