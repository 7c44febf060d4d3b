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

CONFIG_FILE, CLASSES_FILE, WEIGHTS_FILE = "config.json", "classes.txt", "model.npz"


def claim(workdir: Path, config: ml_collections.ConfigDict, class_names: tuple[str, ...]) -> None:
    """Writes config and class names into a new workdir, or checks that it is this run's.

    Raises:
        ValueError: the workdir holds a run of another config; names the fields that differ.
    """
    path = workdir / CONFIG_FILE
    want = json.loads(config.to_json())
    if path.exists():
        have, want = _flat(read_config(workdir)), _flat(want)
        differing = [
            f"  {key}: {have.get(key, 'absent')} there, {want.get(key, 'absent')} now"
            for key in sorted(have.keys() | want.keys())
            if have.get(key, "absent") != want.get(key, "absent")
        ]
        if differing:
            raise ValueError(
                f"{workdir} holds a run of another config; choose a new workdir, or go on with the "
                "old config. They differ in\n" + "\n".join(differing)
            )
    elif jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / CLASSES_FILE).write_text("\n".join(class_names) + "\n")
        temporary = path.with_suffix(".tmp")  # being killed here must not leave half a file
        temporary.write_text(json.dumps(want, indent=2) + "\n")
        temporary.replace(path)


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
