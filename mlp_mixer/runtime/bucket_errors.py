"""What the errors of a bucket's libraries mean, in one line."""

import contextlib
import os
from collections.abc import Iterator

# Whose errors are those of a bucket; of the libraries that gcsfs and s3fs are made of.
_LIBRARIES = (
    "gcsfs",
    "s3fs",
    "google",
    "aiohttp",
    "requests",
    "urllib3",
    "botocore",
    "aiobotocore",
)
_STATUS = {
    401: "the credentials are not valid",
    403: "these credentials have no right to do that",
    404: "there is no such bucket",
}
_LOG_IN = "gcloud auth application-default login, or in Colab google.colab.auth.authenticate_user()"


def problem(error: BaseException) -> str:
    """Returns what an error of a bucket's libraries means, in a line; "" of any other error."""
    kind = type(error)
    if kind.__module__.partition(".")[0] not in _LIBRARIES:
        return ""
    if kind.__name__ in ("DefaultCredentialsError", "NoCredentialsError"):
        return f"there are no credentials: {_LOG_IN}"
    if kind.__module__.startswith("google.auth"):
        return f"{_STATUS[401]}: {_LOG_IN}"
    # google.api_core has the server's own words in a list, gcsfs in `message`.
    details = getattr(error, "errors", None) or [{}]
    words = details[0].get("message") if isinstance(details[0], dict) else None
    lines = str(words or getattr(error, "message", "") or error).strip().splitlines()
    reason = lines[0][:300] if lines else kind.__name__
    meaning = _STATUS.get(getattr(error, "code", 0) or getattr(error, "status", 0))
    return f"{meaning} ({reason})" if meaning else reason


@contextlib.contextmanager
def as_oserror(where: str | os.PathLike) -> Iterator[None]:
    """Within it, an error of a bucket's libraries is raised as an OSError that names `where`.

    What pathlib would raise for a disk, such as FileNotFoundError, stays what it is.
    """
    try:
        yield
    except Exception as error:
        if not (reason := problem(error)):
            raise
        raise OSError(f"{where}: {reason}") from error
