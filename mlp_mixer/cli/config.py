"""Reads a config from --config=FILE_OR_NAME[:ARGUMENT] and --config.FIELD=VALUE."""

from collections.abc import Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags

from mlp_mixer.training import config_files, fields


def load(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Reads the config of an experiment; see `config_files.load`.

    Args:
        spec: the value of --config.
        overrides: arguments such as "--config.lr=0.1", which change fields; of several for one
            field the last counts.

    Raises:
        ValueError: there is no such config or field, or a value has the wrong type.
        OSError: the file cannot be read.
    """
    config = config_files.load(spec)
    values = flags.FlagValues()
    # Of a number only the last would count as it is, but tuples would be joined.
    names = [override.partition("=")[0] for override in overrides]
    last = [override for i, override in enumerate(overrides) if names[i] not in names[i + 1 :]]
    argv = ["mlp-mixer", *last]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(_no_field(overrides, config) or str(error)) from error
    except flags.Error as error:
        raise ValueError(_misread(str(error), overrides, config) or str(error)) from error
    return values.config


def _no_field(overrides: Sequence[str], config: ml_collections.ConfigDict) -> str:
    """Returns an error message for the first override of an unknown field, "" if there is none."""
    known = fields.flatten(config.to_dict())
    for override in overrides:
        name = override.partition("=")[0].removeprefix("--config.")
        if name not in known:
            return config_files.no_field(name, config)
    return ""


def _misread(error: str, overrides: Sequence[str], config: ml_collections.ConfigDict) -> str:
    """Returns a plain message for absl's about an override, "" if it is about something else."""
    for override in overrides:
        name, equals, text = override.removeprefix("--config.").partition("=")
        if equals and error.startswith(f"flag {override}: "):
            return fields.misread(name, text, config)
    return ""
