"""Loads configs by file, by name, or from a run."""

import difflib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections

from mlp_mixer.runtime.storage import AnyPath, as_path
from mlp_mixer.training import fields


def load(spec: str) -> ml_collections.ConfigDict:
    """Reads the config of an experiment.

    Args:
        spec: FILE or FILE:ARGUMENT, where FILE is a Python file with a function
            get_config(argument), or the name of a file in configs/, such as "digits"; or the
            config.json of a run.

    Raises:
        ValueError: there is no such file, it is not a config, or it does not take the argument.
        OSError: the file cannot be read.
    """
    if spec.endswith(".json"):
        return _saved(as_path(spec))
    file, colon, argument = spec.partition(":")
    module = _import(find(file))
    if not callable(get_config := getattr(module, "get_config", None)):
        raise ValueError(f"{file} has no function get_config()")
    if colon and not inspect.signature(get_config).parameters:
        raise ValueError(f"{file} takes no argument, and got {argument!r}")
    return get_config(argument) if colon else get_config()


def find(file: str) -> Path:
    """Returns the file of a config that is given by its path or name.

    Raises:
        ValueError: there is no such config; lists the names of those that exist.
    """
    if Path(file).expanduser().is_file():
        return Path(file).expanduser()
    _look_here()
    if re.fullmatch(r"\w+", file):
        found = importlib.util.find_spec(f"configs.{file}")
        if found and found.origin:
            return Path(found.origin)
    names = named()
    near = difflib.get_close_matches(Path(file).stem, names, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"there is no config {file}{hint} (by name there are {', '.join(names)})")


def named() -> list[str]:
    """Returns the names of the configs that come with mlp_mixer, and of those in ./configs."""
    _look_here()
    package = importlib.util.find_spec("configs")
    folders = (package and package.submodule_search_locations) or ()
    names = {path.stem for folder in folders for path in Path(folder).glob("*.py")}
    return sorted(names - {"common", "__init__"})


def changed(
    config: ml_collections.ConfigDict, changes: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """Returns a copy of a config with some fields changed, given by their dotted names.

    Raises:
        ValueError: there is no such field, or a value has the wrong type.
    """
    config = config.copy_and_resolve_references()
    before = fields.flatten(config.to_dict())
    for name, value in changes.items():
        # One number stands for a tuple, as on the command line; of a size, it is both.
        is_one = isinstance(value, int | float) and isinstance(before.get(name), tuple)
        try:
            config.update_from_flattened_dict({name: (value,) if is_one else value})
        except (KeyError, AttributeError) as error:
            raise ValueError(no_field(name, config)) from error
        except TypeError as error:
            raise ValueError(f"config.{name}={value!r}: {error}") from error
    return config


def no_field(name: str, config: ml_collections.ConfigDict) -> str:
    """Returns an error message for an unknown field, with the field that was meant."""
    hint = fields.did_you_mean(name, fields.flatten(config.to_dict()))
    return f"the config has no field {name}{hint} (configs/common.py explains each)"


def _saved(path: AnyPath) -> ml_collections.ConfigDict:
    """Reads the config that a run has written."""
    try:
        return fields.restored(json.loads(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{path} is not the config.json of a run: {error}") from error


def _import(path: Path) -> ModuleType:
    """Imports a file, which may itself import from the working directory."""
    _look_here()
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _look_here() -> None:
    """Makes the working directory importable, with ./configs in it."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
