"""What the command lines share: errors in one line, and logging."""

import argparse
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import ml_collections
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from mlp_mixer.training import compile_cache, devices, host_memory, visible_log
from mlp_mixer.training.orbax_errors import SILENT_THREADS

USER_ERRORS = (ValueError, OSError, FloatingPointError)
TRACEBACK_VARIABLE = "MLP_MIXER_TRACEBACK"


def run(main: Callable[[list[str]], None]) -> None:
    """Runs main(argv) with absl flags; the exit status is 1 on an error, 2 on a wrong flag."""
    app.run(lambda argv: guard(main, argv), flags_parser=_parse)


def guard(main: Callable[..., None], *args) -> None:
    """Calls main; what a user can mend becomes one message and exit status 1."""
    log_to_stderr()
    host_memory.keep()
    compile_cache.enable()
    devices.leave_out_libtpu()
    try:
        main(*args)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        if not os.environ.get(TRACEBACK_VARIABLE):
            print(f"({TRACEBACK_VARIABLE}=1 shows where)", file=sys.stderr)
        sys.exit(1)
    except (RuntimeError, AssertionError):
        if not (problem := devices.problem()):
            raise
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what was finished", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines with aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """--config=FILE[:ARGUMENT], and --config.FIELD=VALUE for any field of it, as train.py has."""
    parser.add_argument(
        "--config", required=True, metavar="FILE[:ARGUMENT]",
        help="the experiment, a file in configs/, or WORKDIR/config.json of a run; "
        "--config.FIELD=VALUE changes a field",
    )  # fmt: skip


def load_config(path: str, overrides: Sequence[str]) -> ml_collections.ConfigDict:
    """The config of a file, with fields changed by arguments such as --config.lr=0.1."""
    argv = ["mlp_mixer", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    _parse(argv, values)
    return values.config


def at_home(argument: str) -> str:
    """~/PATH and --NAME=~/PATH with the home folder in place of ~, which shells leave after a =."""
    name, equals, value = argument.rpartition("=")
    return name + equals + os.path.expanduser(value)


def add_size_arguments(parser: argparse.ArgumentParser) -> None:
    """--image-size, --patch-size and --resize, which mean what they mean to `mlp_mixer.load`."""
    parser.add_argument(
        "--image-size", type=size, metavar="H[xW]", help="pixels; default: as in the source"
    )
    parser.add_argument("--patch-size", type=size, metavar="H[xW]", help="likewise")
    parser.add_argument(
        "--resize",
        default="auto",
        choices=("auto", "tile", "resample"),
        help="the way to another image size: the paper's for whole multiples, or resampling",
    )


def size(text: str) -> tuple[int, int]:
    """ "224" or "160x256" as (height, width)."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 224 or 160x256")
    return int(found[1]), int(found[2] or found[1])


def log_to_stderr() -> None:
    """Messages of this package from INFO on, those of libraries from ERROR on."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    SILENT_THREADS.__enter__()  # to the end: some of them outlive a run
    log = logging.getLogger(visible_log.NAME)
    log.handlers, log.propagate = [visible_log.handler()], False
    log.setLevel(logging.INFO)


def _parse(args: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    try:
        return values(_of_runs([at_home(argument) for argument in args]))
    except flags.Error as error:
        message = str(error)
    except (AttributeError, KeyError) as error:  # a field of a config that does not exist
        while error.args and isinstance(error.args[0], KeyError):  # ml_collections wraps one
            error = error.args[0]
        reason = ". ".join(str(error.args[0]).splitlines())
        message = f"the config has no field {reason} (configs/common.py explains each)"
    except (ValueError, TypeError, OSError) as error:
        message = str(error)
    if "Traceback" in message and not os.environ.get(TRACEBACK_VARIABLE):
        # ml_collections puts all of it into the message; the last line is the error itself.
        message = f"{message.partition('Traceback')[0].strip()} {message.strip().splitlines()[-1]}"
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _of_runs(args: Sequence[str]) -> list[str]:
    """--config=WORKDIR/config.json as the file with a get_config that flags want."""
    reader = Path(__file__).parent / "training" / "saved_config.py"
    text = re.sub(r"(?m)^(--?config[=\n])(.*\.json)$", rf"\1{reader}:\2", "\n".join(args))
    return text.split("\n")
