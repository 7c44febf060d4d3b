"""The contents of an image file to pixels, uint8 [h, w, channels]."""

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from mlp_mixer.data import depth, jpeg

# Threads of the pipeline decode many images at once; a second pool under each only gets in its way.
cv2.setNumThreads(0)
# Odd metadata is no reason to alarm anyone.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

MAX_PIXELS_VARIABLE = "MLP_MIXER_MAX_PIXELS"
MAX_PIXELS = 2**28  # 16,384 x 16,384, which takes 805 MB in colour
ORIENTATION = 0x0112  # the tag in EXIF
_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION,
    3: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION,
}
PNG_BITS = 24  # where in the file the number of bits of a sample stands


class BrokenImage(ValueError):
    """The bytes of a file are not an image, or a damaged or much too large one."""


def decode(data: bytes, channels: int = 3, where: str = "image") -> np.ndarray:
    """Decodes an image of any common kind to uint8 [h, w, channels].

    Any EXIF rotation is applied, transparency is laid over white, the first frame is taken of an
    animation, more than 8 bits are scaled to 8 (see `depth.to_8_bits`).

    Args:
        data: contents of a JPEG, PNG, GIF, WebP, BMP, ... file.
        channels: 3 for RGB, 1 for grey.
        where: what to call the image in an error.

    Raises:
        BrokenImage: the bytes are not an image, a broken one, or one of more than `max_pixels`.
        OSError: there is not enough memory.
    """
    if channels not in (1, 3):
        raise ValueError(f"images are decoded to 1 (grey) or 3 (RGB) channels, not {channels}")
    limit = max_pixels()
    try:
        header = jpeg.read_header(data)
        image = None if header is None else _decode_jpeg(data, header, channels, where, limit)
        if image is None:
            with _pillow.ours():
                return _decode_other(data, channels, where, limit)
        return image
    except BrokenImage:
        raise
    except MemoryError as error:  # of this machine, not of the image: nothing to skip
        raise OSError(f"there is not enough memory to decode {where}") from error
    except Exception as error:  # decoders raise many kinds, and not all of them on purpose
        if not data:
            reason = "empty file"
        elif isinstance(error, UnidentifiedImageError):
            reason = f"not an image, or its header is damaged; it begins with {data[:16]!r}"
        else:
            reason = str(error) or type(error).__name__
        raise BrokenImage(f"broken image: {where} cannot be decoded ({reason})") from error


def max_pixels() -> int:
    """The most pixels that an image may have; MLP_MIXER_MAX_PIXELS in the environment sets it.

    Raises:
        ValueError: that is no number of at least 1.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if not text:
        return MAX_PIXELS
    try:
        number = int(float(text))
    except (ValueError, OverflowError):
        number = 0
    if number < 1:
        raise ValueError(f"{MAX_PIXELS_VARIABLE}={text} is not a number of pixels, such as 4e8")
    return number


def _check_size(h: int, w: int, where: str, limit: int) -> None:
    if h * w > limit:
        raise BrokenImage(
            f"image too large: {where} has {w} x {h} pixels, or its header is damaged; the limit "
            f"is {limit} pixels, and {MAX_PIXELS_VARIABLE}={h * w} in the environment raises it"
        )


def _decode_jpeg(
    data: bytes, header: jpeg.Header, channels: int, where: str, limit: int
) -> np.ndarray | None:
    """Twice as fast as with Pillow, and the same pixels; None where OpenCV cannot decode it."""
    _check_size(*header.size, where, limit)
    if not jpeg.has_end(data, header):
        raise ValueError("it ends early: there is no end marker")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[channels])
    except cv2.error:
        return None
    if image is None:
        return None
    image = image.reshape(*image.shape[:2], channels)
    if jpeg.may_be_cut(header, image):
        with _pillow.ours():
            if jpeg.is_cut(data, header):
                raise ValueError("it ends early: the rest of the picture is missing")
    if header.has_metadata:
        image = _turn(image, _orientation(data))
    return image


def decode_opened(opened: Image.Image, channels: int, where: str) -> np.ndarray:
    """Returns a PIL image as `decode` returns the file that it may come from.

    Raises:
        BrokenImage: its file is broken, or it has more than `max_pixels`.
    """
    _check_size(opened.height, opened.width, where, max_pixels())
    try:
        with _pillow.ours():
            opened.load()
            return _to_pixels(opened, opened.info.get("transparency"), channels, where)
    except (OSError, SyntaxError, ValueError) as error:
        raise BrokenImage(f"broken image: {where} cannot be decoded ({error})") from error


def _decode_other(data: bytes, channels: int, where: str, limit: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        _check_size(opened.height, opened.width, where, limit)
        is_deep = ";16" in str(opened.tile)  # as Pillow calls what is in the file
        opened.load()
        colour = opened.info.get("transparency")
        if opened.format == "PNG":
            colour = depth.transparent_colour(opened, data[PNG_BITS])
        return _to_pixels(opened, colour, channels, where, is_deep)


def _to_pixels(
    opened: Image.Image, colour: Any, channels: int, where: str, is_deep: bool = False
) -> np.ndarray:
    """A PIL image to pixels; `colour` is the transparent one, if there is one."""
    image = depth.to_8_bits(opened, where) if opened.mode[0] in "IF" else opened
    if colour != image.info.get("transparency"):
        image = image.copy()  # whoever opened the image keeps it as it is
        image.info["transparency"] = colour
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    array = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    if is_deep:
        depth.check_dark(array, where)
    return _turn(array.reshape(*array.shape[:2], channels), _orientation(opened))


def _orientation(image: bytes | Image.Image) -> int:
    """How an image's metadata want it to be seen; 1, which is as it is, where they say nothing."""
    try:
        with _pillow.ours():
            opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image
            return opened.getexif().get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # metadata that are damaged in one of many ways; the pixels are good
        return 1


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image turned and mirrored as one of the eight orientations of EXIF says."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


class _PillowSettings:
    """Pillow's settings of the whole process, which are ours while any thread decodes.

    Its own limit of pixels is off, and a file that was cut short is an error.
    """

    def __init__(self):
        self._lock, self._users = threading.Lock(), 0
        self._before: tuple[int | None, bool] = None, False

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self._before


_pillow = _PillowSettings()
