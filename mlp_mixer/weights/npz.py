"""Published-style `.npz` files: a zip archive with one `.npy` member for each parameter.

The settings of `metadata` are the archive's comment. What does not fit into its 65,535 bytes, such
as the names of ImageNet-21k's classes, continues in the comments of the members, in their order.

Only the table of contents and the headers of all arrays are read at first, so that a file that is
not a Mixer, or claims more than it holds, is refused before it can take time or memory.
"""

import io
import math
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from mlp_mixer.runtime.storage import AnyPath, write_whole
from mlp_mixer.weights import metadata, pickles

Arrays = dict[str, np.ndarray]

# Bytes of the table of contents. zipfile needs about 500 bytes of memory for each 50 to 100 of it;
# the largest Mixer with an optimizer's state has about 1,500 arrays.
DIRECTORY_LIMIT = 1 << 20
COMMENT_LIMIT = 65_535  # bytes of one comment
COMMENTS_LIMIT = 1 << 24  # bytes of all comments
# How many times its size an archive may grow. Trained weights compress to nine tenths of their
# size; what grows a hundred times is no trained model.
INFLATION_LIMIT = 20
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
HEADER_LIMIT = 10_000  # bytes of an array's header; numpy's own limit
END_OF_ARCHIVE, END_LENGTH = b"PK\x05\x06", 22
ZIP64_LOCATOR, ZIP64_LENGTH = b"PK\x06\x07", 20 + 56


class Reader:
    """An open `.npz` file.

    Attributes:
        arrays: stand-ins by name, arrays of the file's shapes and dtypes that take no memory.
        settings: see `metadata`.
    """

    format = "npz"

    def __init__(self, path: Path):
        """Opens a file and reads its headers.

        Raises:
            ValueError: it is not an `.npz` file, or is damaged; names the file and the array.
        """
        self.path = path
        self._file = path.open("rb")
        try:
            self._members = self._open_members()
            self._headers: dict[str, tuple[int, tuple[int, ...], bool, np.dtype]] = {}
            self.arrays = {name: self._stand_in(name) for name in self._members}
            self.settings = metadata.decode(self._comment().decode("latin-1"), str(path))
        except BaseException:
            self._file.close()
            raise

    def read(self, name: str) -> np.ndarray:
        """Reads one array and verifies its checksum.

        Raises:
            ValueError: the array is damaged.
            OSError: there is not enough memory.
        """
        try:
            if self._members[name].compress_type == zipfile.ZIP_STORED:
                return _as_bfloat16(self._read_stored(name))
            with self._zip.open(self._members[name]) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
                if member.read(1):  # at the end of a member zipfile verifies its checksum
                    raise ValueError("it goes on after its last number")
        except MemoryError as error:  # the machine's fault, not the file's
            raise OSError(f"there is not enough memory for {name} of {self.path}") from error
        except Exception as error:  # for damaged bytes zipfile raises a dozen types
            raise self._damaged(name, error) from error
        return _as_bfloat16(array)

    def _read_stored(self, name: str) -> np.ndarray:
        """Reads straight into the array; zipfile would copy every byte twice."""
        member, (length, shape, fortran, dtype) = self._members[name], self._headers[name]
        self._file.seek(member.header_offset)
        after = sum(struct.unpack("<26xHH", self._file.read(30)))  # the name and an extra field
        self._file.seek(after, io.SEEK_CUR)
        checksum = zlib.crc32(self._file.read(length))
        array = np.empty(shape, dtype, order="F" if fortran else "C")
        memory = array.ravel(order="K").view(np.uint8).data
        if self._file.readinto(memory) != array.nbytes:
            raise ValueError("it is cut off")
        if zlib.crc32(memory, checksum) != member.CRC:
            raise ValueError("its checksum is wrong")
        return array

    def close(self) -> None:
        self._file.close()

    def _open_members(self) -> dict[str, zipfile.ZipInfo]:
        try:
            size, count = _check_end(self._file)
            self._zip = zipfile.ZipFile(self._file)
            found = self._zip.infolist()
            if min(len(found), 0xFFFF) != count:
                raise ValueError(f"it has {len(found)} entries, but should have {count}")
        except Exception as error:  # see `read`
            raise self._damaged("its table of contents", error) from error
        names = [member.filename for member in found]
        if any(name.endswith("data.pkl") for name in names):
            raise ValueError(pickles.how_to_convert(self.path))
        problem = None
        if others := [name for name in names if not name.endswith(".npy")]:
            problem = f"is not an .npz file: it is a zip archive with {_some(others)}"
        elif twice := [name for name, count in Counter(names).items() if count > 1]:
            problem = f"is damaged: it holds {_some(twice)} more than once"
        elif any(member.compress_type not in COMPRESSIONS for member in found):
            problem = "is compressed in a way that numpy does not write"
        elif sum(member.compress_size for member in found) > size or any(
            member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size
            for member in found
        ):
            problem = "is damaged: its table of contents promises more bytes than it has"
        elif sum(member.file_size for member in found) > INFLATION_LIMIT * size:
            problem = (
                f"would grow to more than {INFLATION_LIMIT} times its {size} bytes; that is a zip "
                "bomb, not trained weights"
            )
        if problem:
            raise ValueError(f"{self.path} {problem}")
        return {member.filename.removesuffix(".npy"): member for member in found}

    def _comment(self) -> bytes:
        comment = self._zip.comment
        if len(comment) == COMMENT_LIMIT:
            comment += b"".join(member.comment for member in self._members.values())
        return comment

    def _stand_in(self, name: str) -> np.ndarray:
        member = self._members[name]
        parse: dict[tuple[int, int], Callable[[BinaryIO], Any]] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        try:
            with self._zip.open(member) as file:
                header = io.BytesIO(file.read(HEADER_LIMIT))
            version = np.lib.format.read_magic(header)
            if version not in parse:
                raise ValueError(f"header version {version} is unknown")
            shape, fortran, dtype = parse[version](header)
            if dtype.hasobject:
                raise ValueError("it holds Python objects; reading them could run code")
            promised = header.tell() + math.prod(shape) * dtype.itemsize
            if promised != member.file_size or any(side < 0 for side in shape):
                raise ValueError(
                    f"shape {shape} of {dtype} needs {promised} bytes, it has {member.file_size}"
                )
            self._headers[name] = (header.tell(), shape, fortran, dtype)
            return _as_bfloat16(np.broadcast_to(np.empty((), dtype), shape))
        except Exception as error:  # see `read`
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> ValueError:
        return ValueError(f"{self.path} is damaged: cannot read {name} ({error})")


def write(path: AnyPath, arrays: Arrays, settings: dict[str, Any] | None = None) -> None:
    """Writes arrays by name, uncompressed, as `np.savez` does; bfloat16 as two untyped bytes.

    The file appears complete or not at all.

    Raises:
        ValueError: the settings do not fit into the archive's comments.
    """
    comment = metadata.encode(settings).encode() if settings else b""
    pieces = [comment[i : i + COMMENT_LIMIT] for i in range(0, len(comment), COMMENT_LIMIT)]
    if len(comment) > COMMENTS_LIMIT or len(pieces) > 1 + len(arrays):
        raise ValueError(f"{path}: {len(comment)} bytes of metadata are more than fit")

    def fill(file: BinaryIO) -> None:
        members: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
        np.savez(file, **members)
        with zipfile.ZipFile(file, "a") as archive:
            for member, piece in zip(archive.infolist(), pieces[1:], strict=False):
                member.comment = piece
            archive.comment = pieces[0] if pieces else b""  # makes zipfile write the table anew

    write_whole(path, fill)


def _check_end(file: BinaryIO) -> tuple[int, int]:
    """Returns the file's size and the number of entries that its end states (at most 65,535).

    zipfile checks neither this number, so that entries could be lost, nor the length of the table
    of contents before it reads it.

    Raises:
        ValueError: the end is damaged, or the table of contents is too long.
    """
    size = file.seek(0, io.SEEK_END)
    start = file.seek(max(0, size - END_LENGTH - ZIP64_LENGTH - COMMENT_LIMIT))
    tail = file.read()
    end = tail.rfind(END_OF_ARCHIVE)
    if end < 0 or len(tail) - end < END_LENGTH:
        raise ValueError("its end is missing; was it cut off?")
    *_, count, length, at, comment = struct.unpack("<4s4HIIH", tail[end : end + END_LENGTH])
    if end + END_LENGTH + comment != len(tail):
        raise ValueError("its end is not where it should be")
    if tail[max(0, end - 20) : end].startswith(ZIP64_LOCATOR):
        record = tail[max(0, end - ZIP64_LENGTH) : end - 20]
        if len(record) < 56:
            raise ValueError("its end is not where it should be")
        length, at = struct.unpack("<QQ", record[40:56])
    comments = 0
    if DIRECTORY_LIMIT < length <= min(DIRECTORY_LIMIT + COMMENTS_LIMIT, start + end):
        file.seek(at)
        comments = _comments(file.read(length))
    if length - comments > min(DIRECTORY_LIMIT, start + end):
        raise ValueError(f"{length} bytes of it are more than any Mixer needs")
    file.seek(0)
    return size, count


def _comments(table: bytes) -> int:
    """Counts the bytes of a table of contents that are comments of its members."""
    at = comments = 0
    while at + 46 <= len(table):
        name, extra, comment = struct.unpack_from("<3H", table, at + 28)
        at, comments = at + 46 + name + extra + comment, comments + comment
    return comments


def _as_bfloat16(array: np.ndarray) -> np.ndarray:
    """Views two untyped bytes, as which `np.savez` writes bfloat16, as bfloat16."""
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
