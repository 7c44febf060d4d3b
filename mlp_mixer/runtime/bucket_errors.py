"""What the errors of a bucket's libraries mean, in one line."""

import contextlib
import os
import re
from collections.abc import Iterator

# The libraries whose errors are those of a bucket: gcsfs, s3fs, and what they are made of.
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
_LOG_IN = "gcloud auth application-default login, or in Colab google.colab.auth.authenticate_user()"
_MEANINGS = {
    401: f"the credentials are not valid: {_LOG_IN}",
    403: "these credentials have no right to do that",
    404: "there is no such bucket; check its name, or create it with gcloud storage buckets create",
}


def problem(error: BaseException) -> str:
    """Returns what an error of a bucket's libraries means, in a line; "" of any other error."""
    kind = type(error)
    if kind.__module__.partition(".")[0] not in _LIBRARIES:
        return ""
    if kind.__name__ in ("DefaultCredentialsError", "NoCredentialsError"):
        return f"there are no credentials: {_LOG_IN}"
    if kind.__module__.startswith("google.auth"):
        return _MEANINGS[401]
    text = str(getattr(error, "message", "") or error).strip()
    answer = re.search(r'"message": ?"([^"]+)"', text)  # the server's own words, in its JSON
    reason = answer[1] if answer else (text.splitlines() or [kind.__name__])[0][:300]
    code = getattr(error, "code", 0) or getattr(error, "status", 0)
    return f"{_MEANINGS[code]} ({reason})" if code in _MEANINGS else reason


@contextlib.contextmanager
def as_oserror(where: str | os.PathLike) -> Iterator[None]:
    """Gives errors of a bucket's libraries raised within it as an OSError that names `where`."""
    try:
        yield
    except FileNotFoundError as error:  # in which gcsfs names the address of its request
        raise FileNotFoundError(f"{where}: there is no such object, or no such bucket") from error
    except Exception as error:  # of any library, or not of a bucket at all
        if not (reason := problem(error)):
            raise
        raise OSError(f"{where}: {reason}") from error
