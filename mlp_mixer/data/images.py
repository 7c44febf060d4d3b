"""Single images on the host, uint8 [h, w, channels]: reading, resizing, cropping."""

import errno
import http.client
import os
import stat
import urllib.request
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from mlp_mixer.data.decoding import BrokenImage, decode, decode_opened

TIMEOUT = 30  # seconds to wait for a server's answer
LARGEST = 1 << 28  # most bytes of a downloaded file
RESIZE_METHODS = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR}


def decode_file(path: Path, channels: int = 3) -> np.ndarray:
    """Reads and decodes one image file to uint8 [h, w, channels]; see `decode`.

    Raises:
        BrokenImage: it is not an image, or is damaged; names the file and its folder.
        OSError: the file does not exist or cannot be read.
    """
    where = f"{Path(path).name} in folder {Path(path).parent}"
    return decode(read_file(path), channels, where)


def read_image(image: Any, channels: int = 3) -> np.ndarray:
    """Reads one image from a file, address, PIL image or array, to uint8 [h, w, channels].

    Args:
        image: a path; an address that begins with https:// or http://; a PIL image; or an array
            uint8 [h, w] or [h, w, c] with 1 (grey), 3 (RGB) or 4 (RGB and opacity) channels.
        channels: 3 for RGB, 1 for grey.

    Raises:
        BrokenImage: it is not an image, or is damaged; names it.
        OSError: it does not exist or cannot be read.
        ValueError: the array has another shape or dtype.
    """
    if isinstance(image, str) and image.startswith(("https://", "http://")):
        return decode(_download(image), channels, image)
    if isinstance(image, str | os.PathLike):
        return decode_file(Path(image), channels)
    if not isinstance(image, Image.Image):
        image = _from_array(np.asarray(image))
    return decode_opened(image, channels, "image")


def _from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if array.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        raise ValueError(
            f"an image as an array is uint8 [h, w] or [h, w, 1, 3 or 4 channels] with numbers from "
            f"0 to 255, and this one is {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(array.reshape(shape))


def _download(address: str) -> bytes:
    request = urllib.request.Request(address, headers={"User-Agent": "mlp_mixer"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            data = answer.read(LARGEST + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OSError(f"{address} cannot be downloaded ({error})") from error
    if len(data) > LARGEST:
        raise BrokenImage(f"{address} has more than {LARGEST >> 20} MiB")
    return data


def read_file(path: Path) -> bytes:
    """Reads the contents of a file.

    Raises:
        BrokenImage: it is a folder, pipe, socket or device, or a dangling link.
        OSError: the file does not exist or cannot be read.
    """
    try:
        kind = os.stat(path).st_mode  # before opening: a pipe would block until someone writes
    except OSError as error:
        nowhere = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        if error.errno in nowhere and os.path.islink(path):
            raise BrokenImage(f"{path} is a link that leads nowhere, not an image") from error
        raise
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a pipe, socket or device"
        raise BrokenImage(f"{path} is {what}, not an image")
    return Path(path).read_bytes()


def resize(
    image: np.ndarray,
    size: tuple[int, int],
    method: str = "area",
    part: tuple[slice, slice] = (slice(None), slice(None)),
) -> np.ndarray:
    """Resizes an image to uint8 [*size, c], within 1 grey level of tf.image.resize.

    Args:
        image: uint8 [h, w, c].
        size: (height, width) of the result.
        method: "area" averages what each new pixel covers, which repeats pixels when enlarging;
            "bilinear" blends the four nearest pixels, also when shrinking (no antialiasing).
        part: rows and columns of the result to return. Enlarging by area only takes memory for
            these, however large the whole result would be.
    """
    h, w = image.shape[:2]
    if (h, w) == tuple(size):
        return image[part]
    if method == "area" and (size[0] > h or size[1] > w):
        # At some sizes OpenCV reads the wrong pixels where edges of old and new pixels coincide.
        smaller = (min(w, size[1]), min(h, size[0]))
        if smaller != (w, h):
            image = cv2.resize(image.astype(np.float32), smaller, interpolation=cv2.INTER_AREA)
            image = image.reshape(*smaller[::-1], -1)
        return _enlarge_area(image, size, part)
    resized = cv2.resize(image, size[::-1], interpolation=RESIZE_METHODS[method])
    return resized.reshape(*size, -1)[part]


def _enlarge_area(
    image: np.ndarray, size: tuple[int, int], part: tuple[slice, slice]
) -> np.ndarray:
    """Averages what each new pixel covers: along each axis, parts of one or two old pixels."""
    sides = [
        _covered(old, new, range(*wanted.indices(new)))
        for old, new, wanted in zip(image.shape, size, part, strict=False)
    ]
    mean = image[tuple(seen for seen, _, _, _ in sides)].astype(np.float32)
    for axis, (_, first, second, share) in enumerate(sides):
        of_second = share.reshape([-1 if i == axis else 1 for i in range(3)])
        mean = mean.take(first, axis) * (1 - of_second) + mean.take(second, axis) * of_second
    return (mean + 0.5).astype(np.uint8)


def _covered(old: int, new: int, wanted: range) -> tuple[slice, np.ndarray, np.ndarray, np.ndarray]:
    """Computes which of `old` pixels along an axis are covered by the wanted ones of `new`.

    Returns:
        A slice of the old pixels that are needed. For each wanted new pixel, int [n]: the first
        and the second old pixel that it covers, as positions in that slice. The share of the second
        one, float32 [n].
    """
    start, rest = divmod(wanted.start * old, new)  # Python's integers do not overflow
    ends = rest + np.arange(len(wanted) + 1) * old
    first = ends[:-1] // new
    second = np.minimum(first + 1, old - 1 - start)
    share = np.maximum(ends[1:] - (first + 1) * new, 0) / old
    return slice(start, start + int(second[-1]) + 1), first, second, share.astype(np.float32)


def middle(whole: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Returns the rows and columns of the central `size` of an image (height, width) `whole`."""
    top, left = ((have - want) // 2 for have, want in zip(whole, size, strict=True))
    return slice(top, top + size[0]), slice(left, left + size[1])


def eval_view(
    image: np.ndarray, size: tuple[int, int], crop: str = "resmall", fraction: float = 1.0
) -> np.ndarray:
    """Resizes an image and cuts out its centre for evaluation, uint8 [*size, c].

    These are the paper's crops (appendix C) at any resolution; at 224 pixels the paper has fraction
    0.875, so that images are resized to 256.

    Args:
        image: uint8 [h, w, c].
        size: (height, width) of the result.
        crop: "resmall" keeps the aspect ratio and resizes (area) until the image just covers
            size / fraction: for a square size, the shorter side becomes 256. "resize" resizes
            (bilinear) to size / fraction, ignoring the aspect ratio. Both as in the reference.
        fraction: share of each side of the resized image that is kept. With 1.0, "resize" cuts
            nothing away, and "resmall" only what exceeds the aspect ratio of `size`.

    Raises:
        ValueError: the crop is unknown, or the fraction is not over 0 and up to 1.
    """
    check_crop(crop, fraction)
    cover = [round(side / fraction) for side in size]
    whole, method = CROPS[crop](image.shape[0], image.shape[1], cover)
    return resize(image, whole, method, middle(whole, size))


def check_crop(crop: str, fraction: float) -> None:
    """Raises a ValueError if `eval_view` does not accept the crop or the fraction."""
    if crop not in CROPS:
        raise ValueError(f"unknown evaluation crop {crop!r}; use {' or '.join(CROPS)}")
    if not 0 < fraction <= 1:
        raise ValueError(f"an evaluation crop sees a fraction over 0 and up to 1, not {fraction}")


def _resmall(h: int, w: int, cover: list[int]) -> tuple[tuple[int, int], str]:
    scale = max(cover[0] / h, cover[1] / w)
    return (max(cover[0], round(h * scale)), max(cover[1], round(w * scale))), "area"


def _resize(h: int, w: int, cover: list[int]) -> tuple[tuple[int, int], str]:
    return (cover[0], cover[1]), "bilinear"


Crop = Literal["resmall", "resize"]
# The (height, width) to which each crop resizes an image of h x w to cover `cover`, and the method.
CROPS = {"resmall": _resmall, "resize": _resize}
