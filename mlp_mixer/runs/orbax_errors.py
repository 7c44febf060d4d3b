"""Errors of Orbax and tensorstore, told once and in a line."""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator

from mlp_mixer.runtime.shared_context import SharedContext


def in_a_line(error: Exception) -> str:
    """Returns the first line of an error, or the system's own words if tensorstore quotes them."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Annotations come in any order, and some releases add where in the source an error arose.
    annotations = r"(?: \[source locations='[^']*'\])? \[os_error_code='\d+'\]"
    quoted = re.search(rf"([^:]+?){annotations}", lines[0])
    return quoted[1].strip() if quoted else lines[0][:300]


def _is_ours(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname + record.getMessage()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    before = sys.unraisablehook

    def hook(unraisable) -> None:
        # From callbacks of tensorstore for the other arrays, when Orbax has given up.
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    sys.unraisablehook = hook
    for logger in loggers:
        logger.addFilter(_is_ours)
    try:
        yield
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before
        for logger in loggers:
            logger.removeFilter(_is_ours)


# Within it, threads of Orbax do not print by pages the error of a save that `wait` raises.
SILENT_THREADS = SharedContext(_silent)
