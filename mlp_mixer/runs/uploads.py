"""Small files on their way to a bucket, while training goes on."""

import threading
from collections.abc import Callable

from mlp_mixer.runtime.storage import AnyPath, write_bytes


class Uploads:
    """Uploads whole files in the background, the newest content of each.

    An object cannot be appended to. What is put while an upload is under way waits for it, and
    only the last content of a file is uploaded: a slow network makes the files late, and the
    training thread never waits.
    """

    def __init__(self, check_lock: Callable[[], None]):
        """`check_lock` is called before each upload; raises an error if the lock is lost."""
        self._check_lock = check_lock
        self._waiting: dict[AnyPath, bytes] = {}
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._is_closed = self._is_uploading = False
        self._thread = threading.Thread(target=self._upload_all, daemon=True)
        self._thread.start()

    def put(self, path: AnyPath, content: bytes) -> None:
        """Schedules the upload of a file, in place of what it held; does not wait.

        Raises:
            OSError: an earlier upload has failed.
        """
        with self._changed:
            self._raise_error()
            self._waiting[path] = content
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits until everything is uploaded.

        Raises:
            OSError: it cannot be.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or not (self._waiting or self._is_uploading))
            self._raise_error()

    def close(self) -> None:
        """Does what `flush` does, and ends the thread: nothing can be put afterwards."""
        try:
            self.flush()
        finally:
            with self._changed:
                self._is_closed = True
                self._changed.notify_all()
            self._thread.join()

    def _raise_error(self) -> None:
        if self._error:
            raise self._error

    def _upload_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                path = next(iter(self._waiting))
                content = self._waiting.pop(path)
                self._is_uploading = True
            try:
                self._check_lock()
                write_bytes(path, content)
            except Exception as error:  # raised by whoever puts or waits next
                with self._changed:
                    self._error = error
            finally:
                with self._changed:
                    self._is_uploading = False
                    self._changed.notify_all()
            if self._error:
                return
