"""Reads the markers of JPEG files, and detects truncated pictures."""

import io
import re
from typing import NamedTuple

import numpy as np
from PIL import Image

START, END = b"\xff\xd8", b"\xff\xd9"
# The end of compressed data: inside it, FF is always followed by 00 or a restart marker (D0 to D7).
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # segments with the image size
_APP1, _SCAN = 0xE1, 0xDA
# Arbitrary data, with each of the eight restart markers, since a decoder may wait for one of them.
_FILLING = b"".join(bytes(range(254, -1, -1)) + bytes((0xFF, 0xD0 + i)) for i in range(8))


class Header(NamedTuple):
    """The part of a JPEG file before the picture.

    Attributes:
        size: (height, width) in pixels.
        channels: 1, 3, or 4 (CMYK).
        has_metadata: whether there is EXIF or XMP, which may contain an orientation.
        scan: byte offset of the compressed data of the first scan.
    """

    size: tuple[int, int]
    channels: int
    has_metadata: bool
    scan: int


def read_header(data: bytes) -> Header | None:
    """Reads the header of a JPEG file; returns None for other files and for damaged headers."""
    if not data.startswith(START):
        return None
    size, channels, has_metadata, at = (0, 0), 0, False, 2
    try:
        while True:
            at = data.index(b"\xff", at) + 1
            while data[at] == 0xFF:  # padding
                at += 1
            marker = data[at]
            if marker <= 1 or 0xD0 <= marker <= 0xD8:  # these markers have no segment
                continue
            length = data[at + 1] << 8 | data[at + 2]
            if marker in _SIZES:
                size = data[at + 4] << 8 | data[at + 5], data[at + 6] << 8 | data[at + 7]
                channels = data[at + 8]
            elif marker == _APP1:
                has_metadata = True
            elif marker == _SCAN:
                return Header(size, channels, has_metadata, at + 1 + length) if channels else None
            at += 1 + length
    except (IndexError, ValueError):  # beyond the end of the file
        return None


def has_end(data: bytes, header: Header) -> bool:
    """Returns whether an end marker follows the header, which may have one of a preview itself."""
    return data.rfind(END, header.scan) >= 0


def may_be_cut(header: Header, image: np.ndarray) -> bool:
    """Returns whether the picture may be truncated: whether it ends in the decoders' filler grey.

    Args:
        header: the file's header.
        image: its pixels, uint8 [h, w, c], before any rotation.
    """
    return header.channels == 4 or set(image[-1, -1].tolist()) == {128}


def is_cut(data: bytes, header: Header) -> bool:
    """Returns whether a file's compressed data end before its picture does, despite an end marker.

    A complete picture may end in grey as well, so the file is decoded twice, once with more data
    appended. Decoders ignore the appended data if the picture is complete, and otherwise take it
    for the missing part.
    """
    marker = _NEXT_MARKER.search(data, header.scan)
    end = marker.start() if marker else len(data)
    return _decode(data) != _decode(data[:end] + _FILLING + data[end:])


def _decode(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:  # OpenCV would print warnings
        image.draft("L", None)
        return image.tobytes()
