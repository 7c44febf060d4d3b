"""The config of a run, read back: --config=WORKDIR/config.json is short for this file and that."""

import json
from pathlib import Path

import ml_collections

from mlp_mixer.training import fields


def get_config(path: str) -> ml_collections.ConfigDict:
    """The config in a file that a run has written.

    Raises:
        ValueError: it holds no config.
        OSError: it cannot be read.
    """
    try:
        return fields.restored(json.loads(Path(path).expanduser().read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{path} is not the config.json of a run: {error}") from error
