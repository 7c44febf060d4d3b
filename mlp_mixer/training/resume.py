"""Checks that a run continues with the config, the data and the teacher that it began with.

The config is in WORKDIR/config.json. WORKDIR/data.json holds the number of examples and
`Source.digest()`, which does not depend on pixels or on where the data is stored, and
WORKDIR/teacher.json the digest of the teacher's parameters, wherever they were read from.
"""

import json

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from mlp_mixer.data.listing import some
from mlp_mixer.data.sources import Source
from mlp_mixer.runs.folder import (
    CONFIG_FILE,
    DATA_FILE,
    TEACHER_FILE,
    read_classes,
    read_config,
)
from mlp_mixer.runtime.storage import AnyPath, write_text
from mlp_mixer.training import fields
from mlp_mixer.training.teacher import Teacher

MOST = 20  # most class names that a message lists


def check_config(workdir: AnyPath, config: ml_collections.ConfigDict) -> None:
    """Checks a config against the one in the workdir, if there is one.

    Raises:
        ValueError: the two would train differently; names the fields, and says what to do.
    """
    if not (workdir / CONFIG_FILE).exists():
        return
    if changed := fields.changes_training(read_config(workdir), config.to_dict()):
        rows = [f"  {name}: {before} there, {now} now" for name, before, now in changed]
        raise ValueError(
            f"{workdir} holds a run of another config. They differ in\n" + "\n".join(rows) + "\n"
            "Continue with the old values, or start in a new workdir, from the weights of this run "
            f"with --config.init_from={workdir} --config.init_head=auto, or without them"
        )


def check_data(
    workdir: AnyPath, config: ml_collections.ConfigDict, source: Source, step: int
) -> None:
    """Checks the data of a run that continues after `step`, or begins at 0.

    Must be called in all processes. Early versions recorded no digest: their runs continue if the
    classes and the name of the source are the same.

    Raises:
        ValueError: the data is not that of the run, or differs between processes.
    """
    _check_processes(source)
    if step == 0:
        return
    differences = []
    if (there := read_classes(workdir)) != source.class_names:
        now = source.class_names
        differences.append(f"classes: {some(there, MOST)} there, {some(now, MOST)} now")
    file = workdir / DATA_FILE
    if not file.exists():
        before = read_config(workdir)["data"]["source"]
        if before != config.data.source:
            differences.append(f"data.source: {before} there, {config.data.source} now")
    else:
        have = json.loads(file.read_text())
        if have["examples"] != len(source):
            differences.append(f"examples: {have['examples']} there, {len(source)} now")
        elif have["digest"] != source.digest() and not differences:
            differences.append("names of files, labels or their order")
    if differences:
        raise ValueError(
            f"{workdir} holds a run on other data than {source.name} is now. They differ in\n  "
            + "\n  ".join(differences)
            + "\nTo continue, restore the old data. To train on the new data, use a new workdir, "
            f"and these weights with --config.init_from={workdir} --config.init_head=auto"
        )


def record_data(workdir: AnyPath, source: Source, step: int) -> None:
    """Records the identity of the data in the workdir, unless a continued run already has."""
    file = workdir / DATA_FILE
    if jax.process_index() or (step and file.exists()):
        return
    write_text(
        file, json.dumps({"examples": len(source), "digest": source.digest()}, indent=2) + "\n"
    )


def check_teacher(workdir: AnyPath, teacher: Teacher | None, step: int) -> None:
    """Checks the teacher of a run that continues after `step`, or begins at 0.

    Must be called in all processes.

    Raises:
        ValueError: the teacher is not that of the run, or differs between processes.
    """
    if teacher and (other := _compare_processes(teacher.sha256)[1]):
        raise ValueError(
            f"teacher={teacher.source} is not the same in all processes: process {other[0]} found "
            "other weights there than process 0"
        )
    file, now = workdir / TEACHER_FILE, _of_teacher(teacher)
    there = json.loads(file.read_text()) if step and file.exists() else {}
    if step and there.get("sha256") != now.get("sha256"):
        before, after = (
            f"{x['source']} (sha256 {x['sha256'][:16]}...)" if x else "none" for x in (there, now)
        )
        raise ValueError(
            f"{workdir} holds a run whose teacher is {before}; now it is {after}. Continue with "
            "the teacher that it had, or start in a new workdir, from the weights of this run with "
            f"--config.init_from={workdir} --config.init_head=auto, or without them"
        )


def record_teacher(workdir: AnyPath, teacher: Teacher | None) -> None:
    """Records which teacher a run has, which `check_teacher` has let pass."""
    if jax.process_index():
        return
    file = workdir / TEACHER_FILE
    if teacher:
        write_text(file, json.dumps(_of_teacher(teacher), indent=2) + "\n")
    else:
        file.unlink(missing_ok=True)  # of an earlier run that left no checkpoint


def _of_teacher(teacher: Teacher | None) -> dict[str, str]:
    return {"source": teacher.source, "sha256": teacher.sha256} if teacher else {}


def _check_processes(source: Source) -> None:
    found, other = _compare_processes(source.digest(), len(source))
    if other:
        raise ValueError(
            f"{source.name} is not the same data in all processes: {found[0, 0]} examples in "
            f"process 0, {', '.join(f'{found[i, 0]} in process {i}' for i in other)}; or names of "
            "files, labels or classes differ"
        )


def _compare_processes(digest: str, count: int = 0) -> tuple[np.ndarray, list[int]]:
    """Returns all processes' (count, digest), int [processes, 2], and which differ from 0's."""
    if jax.process_count() == 1:
        return np.zeros((1, 2), np.int32), []
    mine = np.array([count, int(digest[:7], 16)], np.int32)
    found = multihost_utils.process_allgather(mine)
    return found, np.flatnonzero((found != found[0]).any(1)).tolist()
