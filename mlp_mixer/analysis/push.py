"""Publishes a finished model: to a repository on the Hugging Face hub, or to a folder."""

import filecmp
import json
import shutil
import tempfile
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from mlp_mixer.analysis import model_card, run_facts
from mlp_mixer.analysis.model_card import Accuracy, Model
from mlp_mixer.runs.folder import AVERAGE_FILE, workdir_of
from mlp_mixer.runtime.storage import AnyPath, as_path, local, named, replacing
from mlp_mixer.weights import hub, of_runs, safetensors, timm_config
from mlp_mixer.weights.convert import convert
from mlp_mixer.weights.files import open_weights


class Pushed(NamedTuple):
    """What `push` did.

    Attributes:
        where: the folder, or the address of the commit; of the repository if nothing was changed.
        changed: whether anything was written; if not, all was there already.
    """

    where: str
    changed: bool


def push(
    source: str | PathLike,
    destination: str | PathLike,
    *,
    license: str | None = None,
    accuracy: Mapping[str, float] | None = None,
    private: bool = False,
    overwrite: bool = False,
) -> Pushed:
    """Publishes a Mixer, so that `load` and timm read it, in one commit.

    Written are model.safetensors, with timm's names and what `load` needs; config.json, as timm
    reads it, with image size, preprocessing and class names; and a model card, README.md: what the
    model is, how it was trained and how accurate it was, as far as its run tells. All of the run's
    config and its command are in it: push to a folder first to see what others will.

    Args:
        source: of a Mixer, as for `load`: the workdir or a checkpoint of a run, or a file.
        destination: "hf://USER/NAME", which is made if there is none, or a folder.
        license: as the hub calls it, such as "apache-2.0"; None if you give none.
        accuracy: top-1 accuracies from 0 to 1 by the name of the data, to be stated beside those
            that the run has measured.
        private: whether the repository must be private.
        overwrite: whether to replace files of these names that hold something else.

    Raises:
        FileNotFoundError, ValueError, OSError: as for `load`; also if the model is not a Mixer, an
            accuracy is none, a repository that should be private is public, or the hub cannot be
            reached or refuses.
        FileExistsError: files would be replaced; names them.
    """
    hub.check_installed("push")
    source, destination = fspath(source), fspath(destination)
    to_hub = destination.startswith(hub.PREFIX)
    if not to_hub:
        _check_folder(destination, private)
    stated = [Accuracy(name, "", _share(name, x)) for name, x in (accuracy or {}).items()]
    with tempfile.TemporaryDirectory(prefix="mlp_mixer_") as temporary:
        weights = Path(temporary, hub.WEIGHTS_FILE)
        with open_weights(source) as opened:
            if unusual := of_runs.kind(opened.config):
                raise ValueError(f"{source} is {unusual}; what can be pushed are Mixers")
            workdir = workdir_of(opened.where)
            run = run_facts.read(str(workdir), "") if workdir else None
            step = model_card.step_of(run, opened.where) if run else None
            is_average = run is not None and opened.where.name == AVERAGE_FILE
        module = convert(source, weights).module
        reader = safetensors.Reader(weights)
        reader.close()
        config = timm_config.make(module, reader.settings)
        Path(temporary, hub.CONFIG_FILE).write_text(
            json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        address = destination if to_hub else named(as_path(destination)).name
        model = Model(address, module, reader.settings, run, step, is_average, stated, license)
        Path(temporary, hub.CARD_FILE).write_text(model_card.write(model), encoding="utf-8")
        files = [Path(temporary, name)
                 for name in (hub.WEIGHTS_FILE, hub.CONFIG_FILE, hub.CARD_FILE)]  # fmt: skip
        if to_hub:
            commit = hub.upload(
                files, destination, f"Push {model.name}", private=private, overwrite=overwrite
            )
            return Pushed(commit or destination, commit is not None)
        return Pushed(destination, _copy(files, as_path(destination), overwrite))


def _check_folder(destination: str, private: bool) -> None:
    path = as_path(destination)
    if private:
        raise ValueError(f"private is for a repository, {hub.PREFIX}//USER/NAME, not for a folder")
    if workdir_of(path):
        raise ValueError(f"{destination} is the workdir of a run; choose another folder")
    if path.is_file():
        raise ValueError(f"{destination} is a file; choose a folder")


def _share(name: str, accuracy: float) -> float:
    if not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy of {name}: {accuracy}; give a number from 0 to 1")
    return float(accuracy)


def _copy(files: list[Path], folder: AnyPath, overwrite: bool) -> bool:
    """Copies files into a folder; returns whether any was not there already."""
    other = [path for path in files if not _is_same(path, folder / path.name)]
    if replaced := [path.name for path in other if (folder / path.name).exists()]:
        hub.check_overwrite(str(folder), replaced, overwrite)
    for path in other:
        with replacing(folder / path.name) as new:
            shutil.copyfile(path, new)
    return bool(other)


def _is_same(path: Path, there: AnyPath) -> bool:
    if not there.exists():
        return False
    with local(there) as copy:
        return filecmp.cmp(path, copy, shallow=False)
