"""The files of a training run that are not checkpoints or metrics.

WORKDIR/config.json   the full config, from the start
WORKDIR/classes.txt   the class names, one a line, from the start
WORKDIR/model.npz     the weights in the published layout, from the end
WORKDIR/ema.npz       their moving average, likewise, if the config asks for one
WORKDIR/data.json     what the data was (see training.resume), from the start
WORKDIR/teacher.json  which teacher the run has, if it has one, from the start
WORKDIR/starts.json   when and how the run was started, each time (see runs.starts)
WORKDIR/finished      says that all steps are done and evaluated
WORKDIR/lock          which process runs in it (see runs.lock)
"""

import json
from os import PathLike
from typing import Any

import jax
import ml_collections

from mlp_mixer.runtime.storage import AnyPath, absolute, as_path, is_on_the_web, write_text

CONFIG_FILE, CLASSES_FILE = "config.json", "classes.txt"
WEIGHTS_FILE, AVERAGE_FILE = "model.npz", "ema.npz"
AVERAGE_PREFIX = "ema_"  # of the scalars that are of the averaged weights
DATA_FILE, TEACHER_FILE, FINISHED_FILE = "data.json", "teacher.json", "finished"
# Of the folder of a sweep: its result, and the workdirs of its last run and of each rate's.
SWEEP_FILE, SWEEP_FULL, SWEEP_RATE = "sweep.json", "full", "lr_"


def check_free(workdir: AnyPath, class_names: tuple[str, ...]) -> bool:
    """Returns True if a new run overwrites nothing that is not a run's.

    Raises:
        ValueError: the folder is no workdir, and has a file of a name that a run writes.
    """
    if workdir_of(workdir):
        return True
    for name in (CONFIG_FILE, CLASSES_FILE, WEIGHTS_FILE, AVERAGE_FILE, DATA_FILE):
        file = workdir / name
        # A run that was killed as it began may have left its class names.
        is_same = (
            name == CLASSES_FILE
            and file.exists()
            and file.read_bytes() == _lines(class_names).encode()
        )
        if file.exists() and not is_same:
            raise ValueError(
                f"{workdir} is not the workdir of a run, and has a file {name}, which a run would "
                "overwrite; choose another workdir"
            )
    return True


def _lines(class_names: tuple[str, ...]) -> str:
    return "\n".join(class_names) + "\n"


def claim(
    workdir: AnyPath,
    config: ml_collections.ConfigDict,
    class_names: tuple[str, ...],
    is_new: bool = False,
) -> None:
    """Writes config and class names into the workdir, as process 0 only.

    The config that is kept is that of the newest start. A new run has no weights yet: those that
    an earlier one has left are taken away.
    """
    if jax.process_index():
        return
    if is_new:
        for name in (WEIGHTS_FILE, AVERAGE_FILE):
            (workdir / name).unlink(missing_ok=True)
    write_text(workdir / CLASSES_FILE, _lines(class_names))
    config_file = workdir / CONFIG_FILE
    write_text(config_file, json.dumps(json.loads(config.to_json()), indent=2) + "\n")


def is_finished(workdir: str | PathLike) -> bool:
    """Returns whether a run has done all of its steps, and has evaluated the last one."""
    workdir = as_path(workdir)
    if (workdir / FINISHED_FILE).exists():
        return True
    # Runs of earlier versions, which wrote the weights last, and nothing of their data.
    return (workdir / WEIGHTS_FILE).exists() and not (workdir / DATA_FILE).exists()


def mark_finished(workdir: AnyPath, step: int) -> None:
    """Makes the run count as finished, as process 0 only."""
    if jax.process_index() == 0:
        write_text(workdir / FINISHED_FILE, f"{step} steps\n")


def workdir_of(weights: str | PathLike) -> AnyPath | None:
    """Returns the workdir that `weights` is or lies in, as model.npz or a checkpoint; else None."""
    if is_on_the_web(weights):
        return None
    path = as_path(weights)
    if path.name in (WEIGHTS_FILE, AVERAGE_FILE):
        path = path.parent
    elif is_checkpoint(path):
        path = absolute(path).parent.parent
    if not (path / CONFIG_FILE).exists():
        return None
    try:
        config = read_config(path)
    except ValueError:
        return None
    # Other tools have a config.json, too: timm, and many on the hub.
    is_ours = isinstance(config, dict) and isinstance(config.get("model"), dict)
    is_ours = is_ours and "image_size" in config
    return path if is_ours else None


def is_checkpoint(folder: AnyPath) -> bool:
    """Returns whether a folder is the checkpoint of a step, in its workdir or away from it."""
    return (folder / "params").is_dir() and absolute(folder).name.isdecimal()


def read_config(workdir: str | PathLike) -> dict[str, Any]:
    """Reads the config of the run, as nested dicts.

    Raises:
        FileNotFoundError: it is not a workdir.
        ValueError: the file is damaged.
    """
    path = as_path(workdir) / CONFIG_FILE
    if not path.exists():
        raise FileNotFoundError(f"{workdir} is not the workdir of a training run: no {CONFIG_FILE}")
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # of JSON, or of UTF-8
        raise ValueError(f"{path} is not the config of a run: {error}") from error


def read_classes(workdir: str | PathLike) -> tuple[str, ...]:
    """Reads the class names of the run."""
    return tuple((as_path(workdir) / CLASSES_FILE).read_text().splitlines())
