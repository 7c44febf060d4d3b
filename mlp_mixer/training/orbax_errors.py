"""Errors of Orbax and tensorstore, told once and in a line."""

import functools
import logging
import re
import sys


def in_a_line(error: Exception) -> str:
    """The first line of an error; the system's own words where tensorstore quotes them."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    quoted = re.search(r"([^:]+) \[os_error_code='\d+'\]", lines[0])
    return quoted[1].strip() if quoted else lines[0][:300]


@functools.cache
def silence_threads() -> None:
    """Keeps threads of Orbax from printing the error of a save, which `wait` raises, by pages."""
    before = sys.unraisablehook

    def hook(unraisable) -> None:
        # From callbacks of tensorstore for the other arrays, when Orbax has given up.
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(lambda x: "orbax" not in x.pathname + x.getMessage())
