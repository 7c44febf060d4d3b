"""One image on the host, uint8 [h, w, channels]: decoding, resizing, cropping."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Threads of the pipeline decode many images at once; a second pool under each only gets in its way.
cv2.setNumThreads(0)

RESIZE_METHODS = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR}


class BrokenImage(ValueError):
    """The bytes of a file are not an image, or a damaged or much too large one."""


def decode_file(path: Path, channels: int = 3) -> np.ndarray:
    """Reads and decodes one image file; see `decode`.

    Raises:
        BrokenImage: not an image, or a broken one; names the file and its folder.
        OSError: the file cannot be read, or is not there.
    """
    try:
        data = Path(path).read_bytes()
    except IsADirectoryError as error:
        raise BrokenImage(f"{path} is a folder, not an image") from error
    return decode(data, channels, f"{Path(path).name} in folder {Path(path).parent}")


def decode(data: bytes, channels: int = 3, where: str = "image") -> np.ndarray:
    """Decodes an image of any common kind to uint8 [h, w, channels].

    Any EXIF rotation is applied, transparency is laid over white, the first frame is taken of an
    animation, 16-bit grey is scaled to 8.

    Args:
        data: contents of a JPEG, PNG, GIF, WebP, BMP, ... file.
        channels: 3 for RGB, 1 for grey.
        where: what to call the image in an error.

    Raises:
        BrokenImage: the bytes are not an image, or a broken one.
    """
    if channels not in (1, 3):
        raise ValueError(f"images are decoded to 1 (grey) or 3 (RGB) channels, not {channels}")
    if data[:2] == b"\xff\xd8" and data.rstrip(b"\0")[-2:] == b"\xff\xd9":
        # Twice as fast as Pillow, and the same pixels. It would fill in the missing part of a
        # file that was cut short, hence the look at the end marker.
        flag = cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        if image is not None:
            return image.reshape(*image.shape[:2], channels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no reason to alarm anyone
            return _decode_with_pillow(data, channels)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        if not data:
            reason = "empty file"
        elif isinstance(error, UnidentifiedImageError):
            reason = f"not an image, or its header is damaged; it begins with {data[:16]!r}"
        else:
            reason = str(error)
        raise BrokenImage(f"broken image: {where} cannot be decoded ({reason})") from error
    except Image.DecompressionBombError as error:
        raise BrokenImage(f"image too large: {where} ({error})") from error


def _decode_with_pillow(data: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        array = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    return array.reshape(*array.shape[:2], channels)


def resize(image: np.ndarray, size: tuple[int, int], method: str = "area") -> np.ndarray:
    """Resizes to (height, width), within 1 grey level of TensorFlow's tf.image.resize.

    Args:
        image: uint8 [h, w, c].
        size: of the result.
        method: "area" takes the mean of what a new pixel covers, which when enlarging repeats
            pixels; "bilinear" blends the four nearest pixels, also when shrinking (no antialias).
    """
    h, w = image.shape[:2]
    if (h, w) == tuple(size):
        return image
    if method == "area" and (size[0] > h or size[1] > w):
        # OpenCV takes wrong pixels here at some sizes, where edges of old and new pixels coincide.
        smaller = (min(w, size[1]), min(h, size[0]))
        mean = cv2.resize(image.astype(np.float32), smaller, interpolation=cv2.INTER_AREA)
        mean = mean.reshape(*smaller[::-1], -1)
        for axis in (0, 1):
            if size[axis] > mean.shape[axis]:
                mean = _enlarge_area(mean, size[axis], axis)
        return (mean + 0.5).astype(np.uint8)
    return cv2.resize(image, size[::-1], interpolation=RESIZE_METHODS[method]).reshape(*size, -1)


def _enlarge_area(image: np.ndarray, new: int, axis: int) -> np.ndarray:
    """Means over what each of `new` pixels along an axis covers: parts of one or two old pixels."""
    old, numbers = image.shape[axis], np.arange(new)
    first = numbers * old // new
    second = np.minimum(first + 1, old - 1)
    share = np.maximum((numbers + 1) * old - (first + 1) * new, 0) / old  # of the second
    share = share.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    return image.take(first, axis) * (1 - share) + image.take(second, axis) * share


def center_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle (height, width) of an image that is at least as large."""
    top, left = ((have - want) // 2 for have, want in zip(image.shape, size, strict=False))
    return image[top : top + size[0], left : left + size[1]]


# --- evaluation views -----------------------------------------------------------------------------


def eval_view(
    image: np.ndarray, size: tuple[int, int], crop: str = "resmall", fraction: float = 1.0
) -> np.ndarray:
    """What of an image is evaluated: it is resized, and the middle `size` of it is seen.

    The paper's crops (appendix C) at any resolution; at 224 pixels it has fraction 0.875, so that
    images are resized to 256.

    Args:
        image: uint8 [h, w, c].
        size: (height, width) of the result.
        crop: "resmall" keeps the aspect and resizes (area) until the image just covers
            size / fraction: in a square the shorter side becomes 256. "resize" resizes (bilinear)
            to size / fraction and ignores the aspect. The methods are the reference's.
        fraction: of the resized image that is seen, along each side; with 1.0 nothing is cut away
            but what the aspect costs "resmall".

    Raises:
        ValueError: unknown crop, or a fraction that is not over 0 and up to 1.
    """
    check_crop(crop, fraction)
    return center_crop(CROPS[crop](image, [round(side / fraction) for side in size]), size)


def check_crop(crop: str, fraction: float) -> None:
    """Raises a ValueError where `eval_view` does not know the crop or the fraction."""
    if crop not in CROPS:
        raise ValueError(f"unknown evaluation crop {crop!r}; use {' or '.join(CROPS)}")
    if not 0 < fraction <= 1:
        raise ValueError(f"an evaluation crop sees a fraction over 0 and up to 1, not {fraction}")


def _resmall(image: np.ndarray, cover: list[int]) -> np.ndarray:
    h, w = image.shape[:2]
    scale = max(cover[0] / h, cover[1] / w)
    return resize(image, (max(cover[0], round(h * scale)), max(cover[1], round(w * scale))))


def _resize(image: np.ndarray, cover: list[int]) -> np.ndarray:
    return resize(image, tuple(cover), "bilinear")


CROPS = {"resmall": _resmall, "resize": _resize}
