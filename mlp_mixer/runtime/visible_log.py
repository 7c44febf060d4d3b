"""The log of this package, where nobody has set up any: a notebook, or a script of a few lines."""

import contextlib
import logging
import sys
from collections.abc import Iterator

from mlp_mixer.runtime.notebooks import in_notebook
from mlp_mixer.runtime.shared_context import SharedContext

NAME = "mlp_mixer"


def handler() -> logging.Handler:
    """Writes lines with the time to stderr; in a notebook, which paints that red, to stdout."""
    made = logging.StreamHandler(sys.stdout if in_notebook() else sys.stderr)
    made.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    return made


@contextlib.contextmanager
def root_as_it_is() -> Iterator[None]:
    """Takes away again what absl, which Orbax logs with, adds to the root logger unasked.

    A `logging.basicConfig` of the user's would do nothing after that.
    """
    before = list(logging.root.handlers)
    try:
        yield
    finally:
        for added in logging.root.handlers[:]:
            if added not in before and _is_basic(added):
                logging.root.removeHandler(added)


@contextlib.contextmanager
def _shown() -> Iterator[None]:
    log = logging.getLogger(NAME)
    with root_as_it_is():
        if _is_set_up(log):
            yield
            return
        level, propagate, added = log.level, log.propagate, handler()
        log.addHandler(added)
        log.setLevel(logging.INFO)
        log.propagate = False  # to a root logger as absl leaves it
        try:
            yield
        finally:
            log.removeHandler(added)
            log.setLevel(level)
            log.propagate = propagate


def _is_set_up(log: logging.Logger) -> bool:
    """Whether somebody has decided what is to be seen of it."""
    root = logging.root
    return bool(
        log.level != logging.NOTSET
        or log.handlers
        or root.level != logging.WARNING  # Python's default
        or not all(map(_is_basic, root.handlers))
    )


def _is_basic(handler: logging.Handler) -> bool:
    """Whether it is what logging.basicConfig() makes, which absl and others call unasked."""
    return (
        type(handler) is logging.StreamHandler
        and handler.level == logging.NOTSET
        and getattr(handler.formatter, "_fmt", None) == logging.BASIC_FORMAT
    )


# Within it, messages from INFO on are seen, unless the user has set up logging in another way.
SHOWN = SharedContext(_shown)
