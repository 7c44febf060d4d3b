"""`.safetensors` files (github.com/huggingface/safetensors): a JSON table, then the numbers.

The format has no checksums. Files that are written here carry one for each array in their metadata,
which is verified when such a file is read.
"""

import io
import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from mlp_mixer.runtime.storage import AnyPath, write_whole
from mlp_mixer.weights import metadata
from mlp_mixer.weights.npz import Arrays

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    # Weights never have these, but a refusal should name them.
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "C64": np.dtype("<c8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
HEADER_LIMIT = 100_000_000  # bytes; the limit of the format itself
METADATA, CHECKSUMS = "__metadata__", "crc32"


class Reader:
    """An open `.safetensors` file.

    Attributes:
        arrays: stand-ins by name, arrays of the file's shapes and dtypes that take no memory.
        settings: see `metadata`.
    """

    format = "safetensors"

    def __init__(self, path: Path):
        """Opens a file and reads its table.

        Raises:
            ValueError: not a `.safetensors` file, or a damaged one; names the file and the array.
        """
        self.path = path
        self._file = path.open("rb")
        try:
            table, self._start = self._read_table()
            texts = table.pop(METADATA, {})
            if not isinstance(texts, dict) or any(type(t) is not str for t in texts.values()):
                raise self._damaged(f"its {METADATA} holds more than texts")
            self._table = table
            self.arrays = self._stand_ins()
            text = next(filter(metadata.is_ours, texts.values()), "")
            self.settings = metadata.decode(text, str(path))
            self._checksums = self.settings.pop(CHECKSUMS, {})
        except BaseException:
            self._file.close()
            raise

    def read(self, name: str) -> np.ndarray:
        """Reads one array and verifies its checksum if the file has one.

        Raises:
            ValueError: the array is damaged.
            OSError: there is not enough memory.
        """
        entry = self._table[name]
        try:
            array = np.empty(entry["shape"], DTYPES[entry["dtype"]])
        except MemoryError as error:
            raise OSError(f"there is not enough memory for {name} of {self.path}") from error
        self._file.seek(self._start + entry["data_offsets"][0])
        if self._file.readinto(_bytes(array)) != array.nbytes:
            raise self._damaged(f"{name} is cut off")
        if self._checksums and self._checksums.get(name) != _checksum(array):
            raise self._damaged(f"the checksum of {name} is wrong")
        return array

    def close(self) -> None:
        self._file.close()

    def _read_table(self) -> tuple[dict[str, Any], int]:
        size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        (length,) = struct.unpack("<Q", self._file.read(8).ljust(8, b"\xff"))
        if length > min(HEADER_LIMIT, size - 8):
            raise self._damaged(f"a table of {length} bytes in a file of {size}")
        try:
            table = json.loads(self._file.read(length), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise self._damaged(f"cannot read its table ({error})") from error
        if not isinstance(table, dict):
            raise self._damaged("its table has no names")
        return table, 8 + length

    def _stand_ins(self) -> Arrays:
        size = self._file.seek(0, io.SEEK_END) - self._start
        arrays, ranges = {}, []
        for name, entry in self._table.items():
            kind = entry.get("dtype") if isinstance(entry, dict) else None
            if isinstance(kind, str) and kind not in DTYPES:
                raise ValueError(
                    f"{self.path}: {name} has the dtype {kind!r}, which is not known here; known "
                    f"are {', '.join(DTYPES)}"
                )
            try:
                dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
                begin, end = entry["data_offsets"]
                fits = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
                if not fits or end - begin != math.prod(shape) * dtype.itemsize:
                    raise ValueError(f"shape {shape} of {dtype} does not fill {begin} to {end}")
                arrays[name] = np.broadcast_to(np.empty((), dtype), shape)
            except (KeyError, TypeError, ValueError) as error:
                raise self._damaged(f"cannot read the entry of {name} ({error!r})") from error
            ranges.append((begin, end))
        # The format allows no gaps and no overlaps.
        ranges.sort()
        if [0, *(end for _, end in ranges)] != [*(begin for begin, _ in ranges), size]:
            raise self._damaged(f"its arrays do not fill its {size} bytes exactly; was it cut off?")
        return arrays

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(f"{self.path} is damaged: {reason}")


def write(path: AnyPath, arrays: Arrays, settings: dict[str, Any] | None = None) -> None:
    """Writes arrays by name, with settings and checksums. The file appears complete or not at all.

    Raises:
        ValueError: the format does not have an array's dtype.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    table: dict[str, Any] = {}
    begin, checksums = 0, {}
    for name, array in arrays.items():
        if array.dtype not in names:
            raise ValueError(f"{name}: {array.dtype} cannot be written to {path}")
        table[name] = {
            "dtype": names[array.dtype],
            "shape": array.shape,
            "data_offsets": (begin, begin + array.nbytes),
        }
        begin += array.nbytes
        checksums[name] = _checksum(array)
    settings = (settings or {}) | {CHECKSUMS: checksums}
    # PyTorch's readers expect "format".
    table[METADATA] = {"format": "pt", metadata.KEY: metadata.encode(settings)}
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)

    def fill(file: BinaryIO) -> None:
        file.write(struct.pack("<Q", len(header)) + header)
        for array in arrays.values():
            file.write(_bytes(np.ascontiguousarray(array)))

    write_whole(path, fill)


def _checksum(array: np.ndarray) -> int:
    """Computes the CRC-32 of dtype, shape and numbers."""
    described = zlib.crc32(f"{array.dtype.name} {array.shape}".encode())
    return zlib.crc32(_bytes(np.ascontiguousarray(array)), described)


def _bytes(array: np.ndarray) -> memoryview:
    """Returns the memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name appears twice")
    return names
