"""Digests that tell whether a checkpoint is still what was saved.

CHECKPOINT/arrays.json   one for each array, taken on the devices before anything was written
CHECKPOINT/SHA256SUMS    one for each file, in the format of the command sha256sum; written last,
                         so that a checkpoint without it is none
"""

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlp_mixer.runtime.storage import AnyPath, files, is_address, write_text, write_whole

ARRAYS_FILE, FILES_FILE = "arrays.json", "SHA256SUMS"
# What file managers and JupyterLab put into folders that somebody looks at.
_OF_A_VIEWER = re.compile(
    r"(.*/)?(\.DS_Store|\._[^/]*|Thumbs\.db|desktop\.ini|\.ipynb_checkpoints/.*)"
)


def of_arrays(tree: Any) -> dict[str, str]:
    """Computes the digest of every array of a tree, by its name, as 16 hexadecimal digits.

    It is a sum over the elements, so it is the same for every layout over devices and processes: in
    several processes all must call this, and all get it. A change of one element always changes it,
    any other change but once in 2^64.
    """
    return finish(start(tree))


def start(tree: Any) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Sets the devices to work on the digests of a tree, and does not wait for them.

    Arrays may be given away (donated) right after. `finish` takes the result, in any thread.
    """
    lanes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        lanes[name] = _lanes(leaf)
        # Many collectives under way at once may deadlock on CPUs.
        if jax.default_backend() == "cpu" and jax.device_count() > 1:
            jax.block_until_ready(lanes[name])
    return lanes


def finish(lanes: dict[str, tuple[jax.Array, jax.Array]]) -> dict[str, str]:
    """Waits for the digests that `start` has begun, and returns them."""
    return {
        name: f"{int(first):08x}{int(second):08x}"
        for name, (first, second) in jax.device_get(lanes).items()
    }


@jax.jit
def _lanes(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two sums modulo 2^32 over mixtures of the bits of an element with its place."""
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    bits = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    place, stride = jnp.zeros(bits.shape, jnp.uint32), 1
    for axis in reversed(range(bits.ndim)):
        steps = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
        place, stride = place + steps * np.uint32(stride), stride * bits.shape[axis] % 2**32
    # Each of these operations can be undone, so two values at one place never give one mixture.
    # The constants are those of MurmurHash3 and, for the second lane, of xxHash.
    first = bits ^ (place * np.uint32(0x9E3779B1))
    first = (first ^ (first >> 16)) * np.uint32(0x85EBCA6B)
    first = (first ^ (first >> 13)) * np.uint32(0xC2B2AE35)
    first = first ^ (first >> 16)
    second = first * np.uint32(0x27D4EB2F)
    second = second ^ (second >> 15)
    # Both in one pass: XLA on CPU works on it with all cores, on two sums with one.
    return jax.lax.reduce(
        (first, second),
        (np.uint32(0), np.uint32(0)),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        tuple(range(bits.ndim)),
    )


def changed(expected: dict[str, str], found: dict[str, str]) -> str:
    """Names the arrays whose digests differ; returns "" if none do."""
    names = [n for n in sorted(expected | found) if expected.get(n) != found.get(n)]
    return f"{names[0]}{f' and {len(names) - 1} more arrays' * (len(names) > 1)}" if names else ""


def write_arrays(folder: AnyPath, step: int, arrays: dict[str, str]) -> None:
    """Puts the digests of a step's arrays into a checkpoint."""
    write_text(folder / ARRAYS_FILE, json.dumps({"step": step, "arrays": arrays}, indent=1) + "\n")


def read_arrays(folder: AnyPath) -> tuple[int, dict[str, str]]:
    """Returns the step of a checkpoint that has passed `damage`, and its arrays' digests."""
    content = json.loads((folder / ARRAYS_FILE).read_text())
    return content["step"], content["arrays"]


def of_files(folder: AnyPath) -> str:
    """Returns the content of SHA256SUMS: every file with its digest, safe on its disk by now."""
    listed = _files(folder)
    digests = _in_parallel(lambda name: _sha256(folder / name, sync=True), listed)
    return "".join(f"{digest}  {name}\n" for digest, name in zip(digests, listed, strict=True))


def seal(folder: AnyPath, sums: str) -> None:
    """Writes SHA256SUMS, in one go, which makes the folder a checkpoint."""

    def fill(file) -> None:
        file.write(sums.encode())
        file.flush()
        os.fsync(file.fileno())

    write_whole(folder / FILES_FILE, fill)


def is_sealed(folder: AnyPath) -> bool:
    """Returns whether a folder is a checkpoint, and not one that is being written or deleted."""
    return (folder / FILES_FILE).exists()


def unseal(folder: AnyPath) -> None:
    """Deletes SHA256SUMS: from then on the folder is not a checkpoint."""
    (folder / FILES_FILE).unlink(missing_ok=True)


def damage(folder: AnyPath, part: str = "") -> str:
    """Returns what is wrong with the files of a sealed folder; "" where nothing is.

    Args:
        folder: the checkpoint.
        part: read only the files whose names begin with this, and those that lie at the top.
    """
    if not is_sealed(folder):
        return f"it has no {FILES_FILE}"
    lines = (folder / FILES_FILE).read_bytes().decode(errors="replace").splitlines()
    expected = {}
    for number, line in enumerate(lines, 1):
        if not (entry := re.fullmatch(r"([0-9a-f]{64})  (.+)", line)):
            return f"line {number} of {FILES_FILE} is damaged"
        expected[entry[2]] = entry[1]
    found = [
        name for name in _files(folder) if name in expected or not _OF_A_VIEWER.fullmatch(name)
    ]
    if differing := sorted(expected.keys() ^ set(found)):
        return f"file {differing[0]} is {'missing' if differing[0] in expected else 'not listed'}"

    def reason(name: str) -> str:
        try:
            same = _sha256(folder / name) == expected[name]
        except OSError as error:
            return f"file {name} cannot be read ({error.strerror})"
        return "" if same else f"file {name} has changed"

    wanted = [name for name in found if "/" not in name or name.startswith(part)]
    return next(filter(None, _in_parallel(reason, wanted)), "")


def _in_parallel(function: Any, names: list[str]) -> list[str]:
    with ThreadPoolExecutor(16) as pool:  # a bucket takes its time to answer, but answers many
        return list(pool.map(function, names))


def _files(folder: AnyPath) -> list[str]:
    return [name for name in files(folder) if name != FILES_FILE]


def _sha256(path: AnyPath, sync: bool = False) -> str:
    with path.open("rb") as file:
        if sync and not is_address(path):
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
