"""Objects that are written only if nobody else has written: what buckets can and disks cannot."""

import contextlib
import datetime
import os
from typing import Any, NamedTuple

from mlp_mixer.runtime.storage import AnyPath

# For how long the faults of a moment (5xx, timeouts, cut connections) are met by trying again.
RETRY_SECONDS = 60


class Version(NamedTuple):
    """What an object holds, and which of its versions that is."""

    content: bytes
    generation: int
    written: datetime.datetime  # by the bucket's clock


class SharedObject:
    """An object for which several processes contend, each knowing which version it has seen.

    It is in Google Cloud Storage, and used by Google's own library: gcsfs cannot state a condition
    on a generation.
    """

    def __init__(self, path: AnyPath):
        """Names an object, which need not exist.

        Raises:
            google.auth.exceptions.GoogleAuthError: there are no credentials.
        """
        import google.auth
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        if os.environ.get("STORAGE_EMULATOR_HOST"):
            credentials: Any = AnonymousCredentials()
        else:
            credentials, _ = google.auth.default(
                scopes=["https://www.googleapis.com/auth/devstorage.read_write"]
            )
        # The project is asked for where a bucket is made or listed, which is not done here.
        client = storage.Client(project="none", credentials=credentials)
        bucket, _, self._name = os.fspath(path).removeprefix("gs://").partition("/")
        self._bucket = client.bucket(bucket)
        self._retry = storage.retry.DEFAULT_RETRY.with_timeout(RETRY_SECONDS)

    def _blob(self) -> Any:
        return self._bucket.blob(self._name)  # a new one, as each is bound to one generation

    def read(self) -> Version | None:
        """Returns the newest version; None where there is no object."""
        from google.api_core.exceptions import NotFound

        blob = self._blob()
        try:
            blob.reload(retry=self._retry)
            content = blob.download_as_bytes(retry=self._retry)
        except NotFound:
            return None
        return Version(content, blob.generation, blob.updated)

    def write(self, content: bytes, over: int | None) -> Version | None:
        """Writes the object if its newest version is still the one with the generation `over`.

        Args:
            content: may not be that of any other version, ever.
            over: None if there must be no object.

        Returns:
            The new version; None if another process was first, and nothing was written.
        """
        from google.api_core.exceptions import PreconditionFailed

        blob = self._blob()
        try:
            blob.upload_from_string(content, if_generation_match=over or 0, retry=self._retry)
        except PreconditionFailed:
            # Or it was this process: the answer to the first try was lost.
            there = self.read()
            return there if there and there.content == content else None
        return Version(content, blob.generation, blob.updated)

    def delete(self) -> None:
        """Deletes the object, if there is one, whatever its version is."""
        from google.api_core.exceptions import NotFound

        with contextlib.suppress(NotFound):
            self._blob().delete(retry=self._retry)
