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
    try:
        while True:
            at = data.index(b"\xff", at) + 1
            while data[at] == 0xFF:  # any number of them fill up
                at += 1
            marker = data[at]
            if marker <= 1 or 0xD0 <= marker <= 0xD8:  # which stand alone
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
    except (IndexError, ValueError):  # the end of the file
        return None


def has_end(data: bytes, header: Header) -> bool:
    """Whether there is an end marker behind the header; those of a preview in it do not count."""
    return data.rfind(END, header.scan) >= 0


def may_be_cut(header: Header, image: np.ndarray) -> bool:
    """Whether an image, uint8 [h, w, c] and not turned, ends in the grey that decoders fill in."""
    return header.channels == 4 or set(image[-1, -1].tolist()) == {128}


def is_cut(data: bytes, header: Header) -> bool:
    """Whether the data of a file that has an end marker end before the picture does.

    It takes two decodings: a picture may well end in that grey. If it is whole, no decoder looks at
    what is put behind its data; where it is not, they take that for its missing part.
    """
    marker = _NEXT_MARKER.search(data, header.scan)
    end = marker.start() if marker else len(data)
    return _decode(data) != _decode(data[:end] + _FILLING + data[end:])


def _decode(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:  # which is silent on what OpenCV complains of
        image.draft("L", None)
        return image.tobytes()
