"""Reading image files; resizing and cropping."""

import os
import socket
import tracemalloc

import cv2
import numpy as np
import pytest

from mlp_mixer.data import images

from .encoding import encode, picture


def noise(h: int, w: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(h * w).integers(0, 256, (h, w, channels), dtype=np.uint8)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.symlink_to("nowhere.png"), "a link that leads nowhere"),
        (lambda path: path.symlink_to(path), "a link that leads nowhere"),
        (os.mkfifo, "a pipe, socket or device"),
        (lambda path: path.symlink_to("/dev/zero"), "a pipe, socket or device"),
        (lambda path: path.mkdir(), "a folder"),
    ],
    ids=["dangling", "loop", "pipe", "device", "folder"],
)
def test_what_is_no_file_is_a_broken_image_at_once(tmp_path, make, words):
    path = tmp_path / "tom.png"
    make(path)
    with pytest.raises(images.BrokenImage, match=rf"tom\.png is {words}"):
        images.decode_file(path)


def test_a_socket_is_a_broken_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("tom.png")
        with pytest.raises(images.BrokenImage, match=r"tom\.png is a pipe, socket or device"):
            images.decode_file("tom.png")


def test_a_missing_file_is_no_broken_image_and_links_are_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tom\.png"):
        images.decode_file(tmp_path / "tom.png")
    (tmp_path / "picture.png").write_bytes(encode(picture(), "PNG"))
    (tmp_path / "tom.png").symlink_to("picture.png")
    np.testing.assert_array_equal(images.decode_file(tmp_path / "tom.png"), np.asarray(picture()))


# --- views ----------------------------------------------------------------------------------------


def overlap(old: int, new: int, first: int, count: int) -> np.ndarray:
    """How much of each new pixel first, first + 1, ... each old one makes up: [count, old]."""
    left = (first + np.arange(count))[:, None] * old / new
    edges = np.arange(old)
    inside = np.minimum(left + old / new, edges + 1) - np.maximum(left, edges)
    return np.maximum(inside, 0) * new / old


SHAPES = [
    (224, 224), (256, 300), (500, 375), (37, 61), (300, 231), (1, 1), (1, 700), (700, 1),
    (3, 20_000), (20_000, 3), (20, 2_000), (257, 256), (255, 257), (900, 300),
]  # fmt: skip


@pytest.mark.parametrize(("h", "w"), SHAPES)
@pytest.mark.parametrize(("size", "fraction"), [((224, 224), 0.875), ((32, 48), 1.0)])
def test_the_resmall_view_is_the_middle_of_the_means_over_areas(h, w, size, fraction):
    image = noise(h, w, 1)
    cover = [round(side / fraction) for side in size]
    scale = max(cover[0] / h, cover[1] / w)
    expected = image[..., 0].astype(float)
    for axis, old in enumerate((h, w)):
        new = max(cover[axis], round(old * scale))
        weights = overlap(old, new, (new - size[axis]) // 2, size[axis])
        expected = np.moveaxis(np.tensordot(weights, expected, (1, axis)), 0, axis)
    view = images.eval_view(image, size, "resmall", fraction)
    assert view.shape == (*size, 1) and view.dtype == np.uint8
    assert np.abs(view[..., 0] - expected).max() <= 1


@pytest.mark.parametrize(("h", "w"), [(240, 180), (500, 375), (30, 900)])
def test_the_resize_view_is_the_middle_of_opencvs_bilinear(h, w):
    image = noise(h, w)
    whole = cv2.resize(image, (256, 128), interpolation=cv2.INTER_LINEAR)
    view = images.eval_view(image, (112, 224), "resize", 0.875)
    np.testing.assert_array_equal(view, whole[8:120, 16:240])


@pytest.mark.parametrize("method", ["area", "bilinear"])
def test_a_part_of_a_resized_image_is_that_part_to_the_bit(method):
    rng = np.random.default_rng(0)
    for _ in range(200):
        old, new = rng.integers(1, 60, 2), tuple(map(int, rng.integers(1, 90, 2)))
        image = noise(*old, int(rng.choice([1, 3])))
        part = tuple(slice(*sorted(rng.choice(side + 1, 2, replace=False))) for side in new)
        whole = images.resize(image, new, method)
        np.testing.assert_array_equal(images.resize(image, new, method, part), whole[part])


@pytest.mark.parametrize(("h", "w"), [(3, 20_000), (20_000, 3), (1, 10**7), (10**7, 1)])
def test_a_view_takes_memory_only_for_what_it_shows(h, w):
    image = np.broadcast_to(np.uint8(9), (h, w, 3))
    tracemalloc.start()
    view = images.eval_view(image, (224, 224), "resmall", 0.875)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (view == 9).all() and peak < 10 * 224 * 224 * 3 * 4  # a few arrays of floats


def test_evaluation_resizes_the_short_side_and_crops_the_middle():
    # A ramp along the width: after resizing 256/128 times, column x holds about x / 2 + 1/4.
    ramp = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (128, 1, 3))
    view = images.eval_view(ramp, (224, 224), "resmall", 0.875)
    assert view.shape == (224, 224, 3)
    left = (400 - 224) // 2
    expected = (np.arange(left, left + 224) + 0.5) / 2 - 0.5
    assert np.abs(view[100, :, 0] - expected).max() <= 1
    same = images.eval_view(ramp[:, :128], (128, 128))
    np.testing.assert_array_equal(same, ramp[:, :128])


def test_the_resize_crop_ignores_the_aspect():
    ramp = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (128, 1, 3))
    view = images.eval_view(ramp, (112, 224), "resize", 0.875)
    assert view.shape == (112, 224, 3)
    expected = (np.arange(16, 240) + 0.5) * 200 / 256 - 0.5  # the middle 224 of 256 columns
    assert np.abs(view[50, :, 0] - expected).max() <= 1


def test_the_views_shrink_by_their_own_methods():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    middle = image[:, 8:40].astype(int)
    # resmall: the mean of all 4 x 4 pixels that a new one covers.
    mean = middle.reshape(8, 4, 8, 4, 3).mean((1, 3))
    assert np.abs(images.eval_view(image, (8, 8), "resmall") - mean).max() <= 1
    # resize: of the four pixels around its middle.
    four = [image[i::4, j::4].astype(int) for i in (1, 2) for j in (1, 2)]
    view = images.eval_view(image, (8, 12), "resize")
    assert np.abs(view - sum(four) / 4).max() <= 1


@pytest.mark.parametrize(
    ("have", "want", "top"), [(9, 4, 2), (8, 4, 2), (9, 8, 0), (7, 7, 0), (12, 5, 3)]
)
def test_the_middle_begins_at_half_of_the_rest_rounded_down(have, want, top):
    rows, columns = images.middle((have, 20), (want, 20))
    assert rows == slice(top, top + want) and columns == slice(0, 20)


@pytest.mark.parametrize(
    ("old", "new"),
    # In the last two edges of old and new pixels coincide, where OpenCV errs.
    [((100, 140), (60, 70)), ((100, 140), (200, 70)), ((105, 140), (155, 276)), ((9, 8), (9, 64))],
)
def test_area_resizing_is_the_mean_over_what_a_pixel_covers(old, new):
    # On a grid as fine as both sizes' common multiple, all of it is repeating and averaging.
    image = np.random.default_rng(0).integers(0, 256, (*old, 1), dtype=np.uint8)
    expected = image[..., 0].astype(float)
    for axis in (0, 1):
        fine = np.lcm(old[axis], new[axis])
        expected = np.repeat(np.moveaxis(expected, axis, 0), fine // old[axis], 0)
        expected = expected.reshape(new[axis], -1, *expected.shape[1:]).mean(1)
        expected = np.moveaxis(expected, 0, axis)
    assert np.abs(images.resize(image, new, "area")[..., 0] - expected).max() <= 1


def test_an_unknown_crop_or_fraction_is_refused():
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"'center'; use resmall or resize"):
        images.eval_view(image, (4, 4), "center")
    with pytest.raises(ValueError, match=r"up to 1, not 1.5"):
        images.eval_view(image, (4, 4), "resize", 1.5)
