"""Compiled programs are kept on disk, so that a command starts faster the second time."""

import logging
import os
import platform
import zlib
from pathlib import Path
from typing import Any

import jax

log = logging.getLogger(__name__)

MAX_BYTES = 4 * 2**30  # what was used least recently goes first
MIN_SECONDS = 0.2  # of compiling; what is faster than that is not worth a file


def enable() -> str | None:
    """Turns JAX's compilation cache on and returns its folder; None where it cannot be written.

    The folder is $JAX_COMPILATION_CACHE_DIR (may be gs://...) where that is set, otherwise one for
    this kind of machine below $XDG_CACHE_HOME or ~/.cache. JAX_ENABLE_COMPILATION_CACHE=0 turns the
    cache off. Deleting the folder is always safe.
    """
    settings: Any = jax.config  # its attributes are not in its class
    if settings.jax_compilation_cache_dir:
        return settings.jax_compilation_cache_dir
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(home).expanduser() / "mlp_mixer" / "jax" / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        writable = False
    if not writable:
        log.info("no compilation cache: %s cannot be written", folder)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    return str(folder)


def _machine() -> str:
    """Programs for a CPU use its instructions, which JAX does not make part of a program's name.

    Homes are often shared between machines of several kinds.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{zlib.crc32(flags.encode()):08x}"
