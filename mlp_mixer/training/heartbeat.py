"""Log lines that show that a run is alive, when nothing else has been logged for a minute."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

SECONDS = 60.0


class Heartbeat:
    """A context manager in which a thread logs what a run is doing, at least once a minute."""

    def __init__(self, level: int = logging.INFO):
        """Prepares lines of a level of `logging`."""
        self._level = level
        self._doing: Callable[[], str] = str
        self._told = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._ended.set()
        self._thread.join()

    def doing(self, what: str) -> None:
        """Sets what the run does from now on, such as "compiling"."""
        began = time.monotonic()
        self._doing = lambda: f"{what}, for {time.monotonic() - began:.0f} s so far"

    def training(self, told: Callable[[], str]) -> None:
        """Lets told() say how far training is from now on."""
        self._doing = told

    def told(self) -> None:
        """Must be called when another line has been logged: the next minute begins."""
        self._told = time.monotonic()

    def _beat(self) -> None:
        while not self._ended.wait(max(0.0, self._told + SECONDS - time.monotonic())):
            if time.monotonic() >= self._told + SECONDS:
                log.log(self._level, "%s", self._doing())
                self.told()
