"""The files of a training run that are not checkpoints or metrics.

WORKDIR/config.json   the full config, from the start
WORKDIR/classes.txt   the class names, one a line, from the start
WORKDIR/model.npz     the weights in the published layout, from the end
"""

import json
from pathlib import Path
from typing import Any

import jax
import ml_collections

# Fields that may change between the parts of a run: they change nothing but the order of sums.
MAY_DIFFER = ("layout", "accum_steps", "log_every_steps", "keep_checkpoints")

CONFIG_FILE, CLASSES_FILE, WEIGHTS_FILE = "config.json", "classes.txt", "model.npz"


def check(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Raises ValueError, naming the fields that differ, if the workdir is of another config."""
    if not (workdir / CONFIG_FILE).exists():
        return
    have, want = _flat(read_config(workdir)), _flat(json.loads(config.to_json()))
    differing = [
        f"  {key}: {have.get(key, 'absent')} there, {want.get(key, 'absent')} now"
        for key in sorted(have.keys() | want.keys())
        if have.get(key, "absent") != want.get(key, "absent") and key not in MAY_DIFFER
    ]
    if differing:
        raise ValueError(
            f"{workdir} holds a run of another config; choose a new workdir, or go on with the "
            "old config. They differ in\n" + "\n".join(differing)
        )


def claim(workdir: Path, config: ml_collections.ConfigDict, class_names: tuple[str, ...]) -> None:
    """Writes config and class names into the workdir, as process 0 only."""
    if jax.process_index() or (workdir / CONFIG_FILE).exists():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / CLASSES_FILE).write_text("\n".join(class_names) + "\n")
    temporary = workdir / f"{CONFIG_FILE}.tmp"  # being killed here must not leave half a file
    temporary.write_text(json.dumps(json.loads(config.to_json()), indent=2) + "\n")
    temporary.replace(workdir / CONFIG_FILE)


def of(checkpoint: str | Path) -> Path | None:
    """The workdir that `checkpoint` is, or whose model.npz it is; None for any other weights."""
    path = Path(checkpoint)
    workdir = path.parent if path.name == WEIGHTS_FILE else path
    return workdir if (workdir / CONFIG_FILE).exists() else None


def read_config(workdir: Path) -> dict[str, Any]:
    """The config of the run, as nested dicts.

    Raises:
        FileNotFoundError: this is no workdir.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise FileNotFoundError(f"{workdir} is not the workdir of a training run: no {CONFIG_FILE}")
    return json.loads(path.read_text())


def read_classes(workdir: Path) -> tuple[str, ...]:
    """The class names of the run."""
    return tuple((Path(workdir) / CLASSES_FILE).read_text().splitlines())


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        nested = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat |= nested if nested is not None else {prefix + key: value}
    return flat
