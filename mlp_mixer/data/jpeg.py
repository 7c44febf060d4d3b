"""What the markers of a JPEG file say, and whether its picture is all there."""

import io
import re
from typing import NamedTuple

import numpy as np
from PIL import Image

START, END = b"\xff\xd8", b"\xff\xd9"
# Where compressed data ends: they have a marker only with 00 behind its FF, or one of a restart.
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of segments with the size
_APP1, _SCAN = 0xE1, 0xDA
# Any data, and after each of the eight markers of a restart, as one of them may be waited for.
_FILLING = b"".join(bytes(range(254, -1, -1)) + bytes((0xFF, 0xD0 + i)) for i in range(8))


class Header(NamedTuple):
    """What stands before the picture.

    Attributes:
        size: (height, width) in pixels.
        channels: 1, 3, or 4 of CMYK.
        has_metadata: EXIF or XMP, in which an orientation may stand.
        scan: where in the file the compressed data of the first scan begin.
    """

    size: tuple[int, int]
    channels: int
    has_metadata: bool
    scan: int


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG file; None of another file, or where it is too damaged to be one."""
    if not data.startswith(START):
        return None
    size, channels, has_metadata, at = (0, 0), 0, False, 2
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at : at + 1] == b"\xff":  # any number of them fill up
            at += 1
        segment = data[at : at + 9]  # marker, length; of the size: bits, height, width, channels
        if len(segment) < 9:
            break
        marker, length = segment[0], int.from_bytes(segment[1:3])
        if marker in _SIZES:
            size = int.from_bytes(segment[4:6]), int.from_bytes(segment[6:8])
            channels = segment[8]
        has_metadata |= marker == _APP1
        if marker == _SCAN:
            return Header(size, channels, has_metadata, at + 1 + length) if channels else None
        at += 1 if marker <= 1 or 0xD0 <= marker <= 0xD8 else 1 + length
    return None


def has_end(data: bytes, header: Header) -> bool:
    """Whether there is an end marker behind the header; those of a preview in it do not count."""
    return data.rfind(END, header.scan) >= 0


def is_cut(data: bytes, header: Header, image: np.ndarray) -> bool:
    """Whether decoders have left the rest of the picture grey, as its data end before it does.

    Args:
        data: the file, which has an end marker.
        header: of it.
        image: uint8 [h, w, c] as decoded, not turned.
    """
    if header.channels != 4 and (image[-1, -1] != 128).any():
        return False
    # A picture may well end in this grey. If it is whole, no decoder looks at what is put behind
    # its data; where it is not, they take that for its missing part.
    end = _NEXT_MARKER.search(data, header.scan).start()
    return _decode(data) != _decode(data[:end] + _FILLING + data[end:])


def _decode(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:  # which is silent on what OpenCV complains of
        image.draft("L", None)
        return image.tobytes()
