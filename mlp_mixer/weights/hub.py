"""Repositories of models on the Hugging Face hub: their weights are read, and written.

One is called hf://OWNER/NAME, or hf://OWNER/NAME@REVISION with a branch, a tag or a commit. The two
slashes may be left out. The library huggingface_hub keeps what is read in its cache, and finds the
token that private repositories and writing need.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlp_mixer.weights import safetensors

log = logging.getLogger(__name__)

PREFIX = "hf:"
# What a repository of a model holds, here and in timm, and what it is described by.
WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_LIBRARIES = ("httpx", "httpx2", "hf_xet")  # of connections, under huggingface_hub


class Repository(NamedTuple):
    """A repository, and which state of it: a branch, a tag or a commit; None for the newest."""

    name: str
    revision: str | None


def repository_of(address: str) -> Repository:
    """Returns the repository that an address such as hf://OWNER/NAME@REVISION means."""
    name, _, revision = address.removeprefix(PREFIX).removeprefix("//").partition("@")
    return Repository(name, revision or None)


def fetch(address: str) -> Path:
    """Returns the local copy of a repository's weights, beside its config.json if it has one.

    Raises:
        FileNotFoundError: there is no such repository or revision, or it has no weights.
        ValueError: huggingface_hub is not installed, or the name cannot be a repository's; or the
            weights are damaged.
        OSError: the hub cannot be reached or refuses.
    """
    api, (name, revision) = _api(address), repository_of(address)
    with _in_words(address):
        path = Path(api.hf_hub_download(name, WEIGHTS_FILE, revision=revision))
    _fetch_config(api, address, path)
    return path


def _fetch_config(api: Any, address: str, weights: Path) -> None:
    """Brings a repository's config.json, unless it has none or the weights do not need one."""
    from huggingface_hub import constants, errors

    name, revision = repository_of(address)
    with _in_words(address):
        try:
            api.hf_hub_download(name, CONFIG_FILE, revision=revision)
            return
        except errors.RemoteEntryNotFoundError:
            has_none = True
        except errors.LocalEntryNotFoundError:  # the hub does not say whether it has one
            has_none = _in_cache(address, CONFIG_FILE) is not None  # it has said so earlier
            if not (has_none or constants.HF_HUB_OFFLINE or _say_all(weights)):
                raise
    if has_none:
        log.info("%s: no %s; only its name says what it is", address, CONFIG_FILE)
    elif not _say_all(weights):  # `hf download` records no file that a repository lacks
        log.warning(
            "%s: HF_HUB_OFFLINE is set, and %s is not in the cache. If the repository has one, its "
            "crop, pixel range and class names are not used: load it once without HF_HUB_OFFLINE",
            address, CONFIG_FILE,
        )  # fmt: skip


def _say_all(weights: Path) -> bool:
    """Returns whether a file itself says how it is used, so that a config.json is not read."""
    with contextlib.closing(safetensors.Reader(weights)) as reader:
        return bool(reader.settings)


def is_cached(address: str) -> bool:
    """Returns whether a repository's weights are in the cache of huggingface_hub."""
    try:
        return isinstance(_in_cache(address, WEIGHTS_FILE), str)
    except ImportError:
        return False


def _in_cache(address: str, file: str) -> Any:
    """Returns a file's path in the cache, None if it is not there.

    If the hub has said that the repository has no such file, the result is neither.
    """
    from huggingface_hub import try_to_load_from_cache

    name, revision = repository_of(address)
    return try_to_load_from_cache(name, file, revision=revision)


def upload(
    files: Sequence[Path], address: str, message: str, *, private: bool, overwrite: bool
) -> str | None:
    """Puts files into a repository, which is made if there is none, in one commit.

    Args:
        files: on this machine; in the repository each has its name.
        address: of the repository.
        message: of the commit.
        private: whether the repository is private.
        overwrite: whether to replace files of these names that hold something else.

    Returns:
        The address of the commit; None if the repository has just these files already.

    Raises:
        FileExistsError: files would be overwritten; names them.
        ValueError: huggingface_hub is not installed, the name cannot be a repository's, the hub
            refuses what the files say, or a repository that should be private is public.
        OSError: the hub cannot be reached or refuses; says what to do.
    """
    api, (name, revision) = _api(address), repository_of(address)
    from huggingface_hub import CommitOperationAdd, errors

    if revision or name.count("/") != 1:
        raise ValueError(f"{address}: what is written to is {PREFIX}//OWNER/NAME, without more")
    with _in_words(address):
        try:
            there = api.model_info(name, files_metadata=True)
        except errors.RepositoryNotFoundError:
            api.create_repo(name, private=private or None)  # else as its owner has set
            there = None
    if private and there and not there.private:
        raise ValueError(
            f"{address} is public; make it private in its settings, or choose another name"
        )
    known = {file.rfilename: file for file in (there.siblings if there else None) or ()}
    other = [path for path in files if not _is_same(path, known.get(path.name))]
    if not other:
        return None
    if replaced := [path.name for path in other if path.name in known]:
        check_overwrite(address, replaced, overwrite)
    added = [CommitOperationAdd(path.name, path) for path in other]
    parent = there.sha if there else None  # what others have pushed since then stays
    with _in_words(address):
        found = api.create_commit(name, added, commit_message=message, parent_commit=parent)
    return str(found.commit_url)


def check_overwrite(where: str, replaced: Sequence[str], overwrite: bool) -> None:
    """Raises FileExistsError if `replaced` files must not be replaced; else logs their names."""
    names = ", ".join(replaced)
    if not overwrite:
        raise FileExistsError(
            f"{where} has another {names}; choose a new name, or replace what is there with "
            "overwrite=True (--overwrite)"
        )
    log.warning("%s: replacing %s", where, names)


def _is_same(path: Path, there: Any) -> bool:
    """Returns whether a file of a repository, if there is one, has the content of a local one."""
    if there is None or there.size not in (None, path.stat().st_size):
        return False
    if there.lfs:
        with path.open("rb") as file:
            return bool(there.lfs.sha256 == hashlib.file_digest(file, "sha256").hexdigest())
    content = path.read_bytes()  # small: large files are kept by their SHA-256
    return bool(there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())


def check_installed(what: str) -> None:
    """Raises ValueError if huggingface_hub, which `what` needs, is not installed."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"{what} needs the package huggingface_hub: pip install huggingface_hub"
        ) from error


def _api(address: str) -> Any:
    check_installed(address)
    from huggingface_hub import HfApi

    import mlp_mixer

    return HfApi(library_name="mlp_mixer", library_version=mlp_mixer.__version__)


@contextlib.contextmanager
def _in_words(address: str) -> Iterator[None]:
    """Gives errors of huggingface_hub as ones that name the repository and say what to do."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause and not (found := _meaning(cause, address)):
            cause = cause.__cause__  # such as a refusal behind "not in the cache"
        if not cause or not found:
            raise
        raise found from error


def _meaning(error: BaseException, address: str) -> Exception | None:
    """Returns what an error of huggingface_hub means; None if another error has caused it."""
    from huggingface_hub import constants, errors

    if isinstance(error, ValueError) and not isinstance(error, errors.BadRequestError):
        return ValueError(f"{address}: {' '.join(str(error).split())}")  # of names, or of the card
    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{repository_of(address).name}"
        return PermissionError(f"{address} is gated: accept its terms at {page}, and {_LOG_IN}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"the Hugging Face hub has no {address}, or it is private and you may not read it: "
            f"{_LOG_IN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{address}: there is no such branch, tag or commit")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return FileNotFoundError(f"{address} has no {WEIGHTS_FILE}")
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(error.response.status_code, str(error.server_message or error), address)
    if constants.HF_HUB_OFFLINE and isinstance(error, errors.EntryNotFoundError | ConnectionError):
        return OSError(
            f"{address}: HF_HUB_OFFLINE is set, so nothing but what is in the cache "
            f"({constants.HF_HUB_CACHE}) can be read, and nothing written"
        )
    connection = type(error).__module__.partition(".")[0] in _LIBRARIES
    if connection or isinstance(error, ConnectionError | TimeoutError):
        return OSError(f"{address}: the Hugging Face hub cannot be reached ({error})")
    if isinstance(error, errors.LocalEntryNotFoundError) and not error.__cause__:
        return OSError(f"{address}: the Hugging Face hub cannot be reached")
    return None


def _refusal(status: int, reason: str, address: str) -> Exception:
    reason = " ".join(reason.split())[:300]
    if status == 401:
        return PermissionError(f"{address} needs a token that is valid: {_LOG_IN} ({reason})")
    if status == 403:
        return PermissionError(
            f"{address}: your token may not do that; make one with the right to write to it "
            f"({reason})"
        )
    if status in (409, 412):
        return OSError(f"{address} has changed in the meantime; try again ({reason})")
    if status == 400:
        return ValueError(f"{address}: the Hugging Face hub refuses this: {reason}")
    return OSError(f"{address}: the Hugging Face hub answers {status} ({reason})")
