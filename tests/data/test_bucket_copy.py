"""Data in a bucket is the data on the disk, copied once, and again where it has changed."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from PIL import Image

from mlp_mixer.data import bucket_copy
from mlp_mixer.data.prepare.prepare import prepare
from mlp_mixer.data.sources import open_source
from mlp_mixer.runtime import storage


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MLP_MIXER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def images(tmp_path):
    """A folder of two classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


def equal(a, b) -> bool:
    return (
        a.class_names == b.class_names
        and a.digest() == b.digest()
        and all(np.array_equal(a[i][0], b[i][0]) and a[i][1] == b[i][1] for i in range(len(a)))
    )


def test_a_folder_in_a_bucket_is_the_folder_on_the_disk(bucket, images, cache, proxy):
    storage.upload_tree(images, bucket)
    here = open_source(f"folder:{images}", "train")
    assert equal(open_source(f"folder:{bucket}", "train"), here)
    proxy.forget()
    assert len(open_source(f"folder:{bucket}", "val")) == 4
    assert set(proxy.counts) <= {"list", "read"} and proxy.received < 20_000  # a listing, no image
    # What changes there is copied again, and what is gone there is gone here.
    (bucket / "train/cat/0.png").write_bytes((images / "train/dog/0.png").read_bytes())
    (bucket / "train/dog/4.png").unlink()
    again = open_source(f"folder:{bucket}", "train")
    assert len(again) == 9 and np.array_equal(again[0][0], here[5][0])


def test_what_is_gone_of_a_copy_is_copied_again(bucket, images, cache):
    storage.upload_tree(images, bucket)
    here = open_source(f"folder:{images}", "train")
    assert equal(open_source(f"folder:{bucket}", "train"), here)
    copy = bucket_copy.place_for(str(bucket))
    (copy / "train/cat/0.png").unlink()  # whoever cleans a cache leaves the folder
    assert equal(open_source(f"folder:{bucket}", "train"), here)
    shutil.rmtree(copy)  # as the line in the log says
    assert equal(open_source(f"folder:{bucket}", "train"), here)


def test_a_copy_that_was_interrupted_continues(bucket, images, cache, monkeypatch):
    storage.upload_tree(images, bucket)
    copied, fetch = [], bucket_copy._fetch

    def fetch_six(file_system, address, path):
        if len(copied) == 6:
            raise OSError("the network is gone")
        copied.append(path)
        fetch(file_system, address, path)

    monkeypatch.setattr(bucket_copy, "AT_ONCE", 1)
    monkeypatch.setattr(bucket_copy, "_fetch", fetch_six)
    with pytest.raises(OSError, match="gone"):
        open_source(f"folder:{bucket}", "train")
    copied.clear()
    monkeypatch.setattr(bucket_copy, "_fetch", lambda *a: copied.append(a) or fetch(*a))
    there, here = open_source(f"folder:{bucket}", "train"), open_source(f"folder:{images}", "train")
    assert equal(there, here)
    assert len(copied) == 14 - 6


@pytest.mark.slow
def test_a_data_set_is_prepared_in_a_bucket_and_read(bucket, images, cache, monkeypatch):
    storage.upload_tree(images, bucket / "images")
    made = prepare(f"folder:{bucket}/images", name="pets", data_dir=str(bucket))
    assert made.examples == {"train": 10, "val": 4} and str(made.folder) == f"{bucket}/pets/1.0.0"
    monkeypatch.setenv("TFDS_DATA_DIR", str(bucket))
    there, here = open_source("tfds:pets", "train"), open_source(f"folder:{images}", "train")
    assert sorted(there.labels()) == sorted(here.labels())
    assert {there[i][0].tobytes() for i in range(10)} == {here[i][0].tobytes() for i in range(10)}
    with pytest.raises(ValueError, match=r"pets/1\.0\.0 is there already"):
        prepare(f"folder:{images}", name="pets", data_dir=str(bucket))


def test_two_at_once_copy_once(bucket, images, cache, monkeypatch):
    """Processes of one host open the same data at the same time."""
    storage.upload_tree(images, bucket)
    copied, fetch = [], bucket_copy._fetch

    def slowly(file_system, address, path):
        copied.append(address)
        time.sleep(0.02)
        fetch(file_system, address, path)

    monkeypatch.setattr(bucket_copy, "_fetch", slowly)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: open_source(f"folder:{bucket}", "train"), range(3)))
    assert len(copied) == 14 and all(equal(one, found[0]) for one in found)


def test_what_cannot_be_copied_is_refused(bucket, images, cache, monkeypatch):
    with pytest.raises(ValueError, match="needs --name"):
        prepare(f"folder:{images}", data_dir=str(bucket))
    with pytest.raises(FileNotFoundError, match=f"there is nothing in {bucket}"):
        open_source(f"folder:{bucket}", "train")
    storage.upload_tree(images, bucket)
    monkeypatch.setattr(bucket_copy.shutil, "disk_usage", lambda path: type("", (), {"free": 9}))
    with pytest.raises(ValueError, match="MLP_MIXER_CACHE to a larger disk, or mount"):
        open_source(f"folder:{bucket}", "train")
    monkeypatch.setattr(fsspec, "filesystem", lambda *a, **k: (_ for _ in ()).throw(ImportError()))
    with pytest.raises(ValueError, match=r"needs gcsfs: pip install gcsfs"):
        open_source("folder:gs://b/images", "train")
