"""What the command lines share: errors in one line, and logging."""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import app, flags
from absl import logging as absl_logging

from mlp_mixer.training import host_memory

USER_ERRORS = (ValueError, OSError, FloatingPointError)
TRACEBACK_VARIABLE = "MLP_MIXER_TRACEBACK"


def run(main: Callable[[list[str]], None]) -> None:
    """Runs main(argv) with absl flags; the exit status is 1 on an error, 2 on a wrong flag."""
    app.run(lambda argv: guard(main, argv), flags_parser=_parse)


def guard(main: Callable[..., None], *args) -> None:
    """Calls main; what a user can mend becomes one message and exit status 1."""
    log_to_stderr()
    host_memory.keep()
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
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues from the last checkpoint")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines with aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def log_to_stderr() -> None:
    """Messages of this package from INFO on, those of libraries from ERROR on."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    log = logging.getLogger("mlp_mixer")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)


def _parse(args: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(args)
    except flags.Error as error:
        message = error
    except (AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        message = error  # how ml_collections says that a config has no such field, or no such file
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
