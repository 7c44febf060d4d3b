"""Downloads files into a cache folder: ~/.cache/mlp_mixer, or $MLP_MIXER_CACHE.

An interrupted download continues where it stopped. A file gets its name in the cache only when it
is complete and could be read to its end.
"""

import contextlib
import hashlib
import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mlp_mixer.weights import released

log = logging.getLogger(__name__)

CACHE_VARIABLE = "MLP_MIXER_CACHE"
GCS_ADDRESS = "https://storage.googleapis.com"
ATTEMPTS = 4  # failures in a row, none of which gained a byte, after which to give up
PAUSE = 1.0  # seconds before the second attempt; doubles with each
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20


def fetch(url: str, check: Callable[[Path], None], size: int = 0, tolerance: int = 0) -> Path:
    """Returns the local copy of the file at an address, downloaded if it is not in the cache.

    Args:
        url: http://, https:// or gs://. Objects in Google Cloud Storage are read through their
            public https address, and private ones through etils.epath, which needs TensorFlow or
            gcsfs and your credentials.
        check: reads a whole file and raises ValueError if it is not what it should be.
        size: the expected size in bytes, give or take `tolerance`; 0 if it is unknown.
        tolerance: in bytes.

    Raises:
        FileNotFoundError: there is nothing at this address.
        ValueError: the file there is not what it should be.
        OSError: the server cannot be reached, or stops answering; says what to do.
    """
    path, before = _cached(url), _cached_before(url)
    if before and before.is_file() and not path.exists():
        path = before
    if path.exists():
        log.info("using %s (delete it to download it again)", path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(path):
        if not path.exists():  # else another process downloaded it while this one waited
            _download(url, path, check, size, tolerance)
    return path


def is_cached(url: str) -> bool:
    """Returns whether `fetch` has this address's file already."""
    before = _cached_before(url)
    return _cached(url).exists() or bool(before and before.is_file())


def cache_folder() -> Path:
    """Returns the folder in which downloads are kept."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/mlp_mixer").expanduser()


def _cached(url: str) -> Path:
    """Returns the cache's path for an address; no two addresses share one.

    The names of host and file are for people; the digest tells addresses apart.
    """
    parts = urllib.parse.urlsplit(url)
    host, name = (
        re.sub(r"[^a-z0-9.-]", "_", text.lower()).strip(".")[-100:]
        for text in (parts.netloc, parts.path.rpartition("/")[2])
    )
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return cache_folder() / f"{parts.scheme}-{host}" / f"{digest}-{name}"


def _cached_before(url: str) -> Path | None:
    """Returns the path that version e108a84 used, or None if another address's file may be there.

    It was made of host and path, with unusual characters replaced by _ and without the scheme. A
    path without _ is taken to come from https://, or from gs:// if its first part has no dot. The
    released files are known to be safe.
    """
    parts = urllib.parse.urlsplit(url)
    names = [parts.netloc, *parts.path.split("/")[1:]]
    scheme = "https" if "." in parts.netloc else "gs"
    plain = all(re.fullmatch(r"[A-Za-z0-9.-]+", name) and name.strip(".") for name in names)
    known = url.startswith(f"{released.ADDRESS}/")
    if known or (plain and parts.scheme == scheme and not parts.query and not parts.fragment):
        return cache_folder().joinpath(*names)
    return None


def _download(url: str, path: Path, check: Callable, size: int, tolerance: int) -> None:
    part = path.with_name(f"{path.name}.part")
    if url.startswith("gs://"):
        try:
            _over_http(f"{GCS_ADDRESS}/{url.removeprefix('gs://')}", part, size, tolerance)
        except (PermissionError, FileNotFoundError):  # anonymous readers get either one
            _with_credentials(url, part)
    else:
        _over_http(url, part, size, tolerance)
    try:
        check(part)
    except ValueError as error:
        _discard(part)  # there is nothing to continue
        raise ValueError(f"{url} does not give usable weights: {error}") from error
    os.replace(part, path)
    _discard(part)


def _over_http(url: str, part: Path, size: int, tolerance: int) -> None:
    """Downloads to `part`, continuing where it ends."""
    failures = 0
    while True:
        before = _length(part)
        try:
            return _attempt(url, part, size, tolerance)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise FileNotFoundError(f"no file at {url} ({error.code})") from error
            if error.code in (401, 403):
                raise PermissionError(f"{url} may not be read ({error.code})") from error
            if error.code == 416:  # the file changed, and the part is not its beginning
                _discard(part)
            elif error.code < 500 and error.code != 429:
                raise OSError(f"{url} answers {error.code} {error.reason}") from error
            reason: Exception = error
        except (OSError, http.client.HTTPException) as error:
            reason = error
        failures = 0 if _length(part) > before else failures + 1
        if failures >= ATTEMPTS:
            raise ConnectionError(
                f"{url} cannot be downloaded ({reason}); {_length(part)} bytes of it are kept, the "
                "same command continues from there"
            ) from reason
        log.warning("%s: %s; trying again from byte %d", url, reason, _length(part))
        time.sleep(PAUSE * 2 ** max(failures - 1, 0))


def _attempt(url: str, part: Path, size: int, tolerance: int) -> None:
    """Makes one request for what `part` lacks."""
    have, validator = _length(part), part.with_suffix(".part-of")
    request = urllib.request.Request(url, headers={"User-Agent": "mlp_mixer"})
    if have and validator.exists():
        # The server sends only the rest if the file has not changed since, else all of it.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator.read_text())
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206 or _begins_at(answer) != have:
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else None
        if size and total is not None and abs(total - size) > tolerance:
            raise ValueError(
                f"{url} has {total} bytes, but the released file has {size}; if you trust it, load "
                "it by its address instead of its short name"
            )
        bar = tqdm(
            desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, disable=None
        )
        with bar, part.open("ab" if have else "wb") as file:
            _remember(validator, answer.headers)
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _length(part) != total:
        raise ConnectionError(f"the connection was cut at {_length(part)} of {total} bytes")


def _begins_at(answer: Any) -> int:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _remember(validator: Path, headers: Any) -> None:
    """Saves what identifies this version of the file; without it no download can continue."""
    tag = headers.get("ETag", "")
    identity = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    if identity:
        validator.write_text(identity)
    else:
        validator.unlink(missing_ok=True)


def _with_credentials(url: str, part: Path) -> None:
    from etils import epath

    try:
        with epath.Path(url).open("rb") as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
    except ImportError as error:
        raise PermissionError(
            f"{url} is not there or not public; private objects need gcsfs (pip install gcsfs) "
            "and credentials (gcloud auth application-default login)"
        ) from error
    except FileNotFoundError:
        raise
    except Exception as error:  # each backend has its own
        raise OSError(f"{url} cannot be read: {error}") from error


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Lets only one process on this machine download `path` at a time."""
    try:
        import fcntl
    except ImportError:  # Windows has none; two downloads at once would then fail their check
        yield
        return
    with path.with_name(f"{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".part-of").unlink(missing_ok=True)
