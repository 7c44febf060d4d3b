"""A run in the output of a notebook's cell, while it trains: a bar and curves, redrawn in place."""

import contextvars
import io
import logging
import threading
import time
from typing import Any

from mlp_mixer.analysis import figures
from mlp_mixer.analysis.curves import Curves, Lines

log = logging.getLogger(__name__)

SECONDS = 2.0  # at least, between two drawings
SHARE = 0.05  # of the time, at most, that is spent on drawing
SCALARS = ("loss", "accuracy")
DPI = 144  # fine enough for a dense screen
SHOWN_AT = {"image/png": {"width": 792}}  # pixels of a page: half of them


class LiveRun:
    """Shows a run in the cell that trains it, and leaves its last state there.

    It is a context manager, which shows nothing before it is entered. A thread of its own draws,
    so that no step waits for it.

    Attributes:
        bar: a file for tqdm; what is written to it is shown above the curves.
    """

    def __init__(self, name: str):
        """Plans to show a run that the legend calls `name`."""
        self.bar = _Bar()
        self._name = name
        self._lines: list[dict[str, float]] = []
        self._drawn = 0  # lines that are in the picture
        self._changed = threading.Condition()
        self._is_closed = False

    def __enter__(self) -> "LiveRun":
        self.bar.show()
        self._picture = _show("Curves appear with the first report.")
        # In a copy of the context, which tells newer kernels the cell that outputs belong to.
        draw = contextvars.copy_context().run
        self._thread = threading.Thread(target=draw, args=(self._draw_until_closed,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def report(self, line: str) -> None:
        """Shows a line below the bar, in place of the one before."""
        self.bar.below = line

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds scalars of a step, which are drawn soon; does not wait."""
        with self._changed:
            self._lines.append({"step": step, **values})
            self._changed.notify()

    def _draw_until_closed(self) -> None:
        pause = 0.0
        try:
            while not self._is_closed:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed, pause)
                    self._changed.wait_for(lambda: self._is_closed or self._has_more())
                pause = max(SECONDS, self._draw() / SHARE)
            self._draw()
        except Exception as error:  # of the notebook's; no reason to end a run
            log.warning("the curves are not drawn any more (%s: %s)", type(error).__name__, error)

    def _has_more(self) -> bool:
        return len(self._lines) > self._drawn

    def _draw(self) -> float:
        """Draws what is new, and returns how many seconds that took."""
        began = time.perf_counter()
        if self._has_more():
            lines = list(self._lines)
            self._picture.update(_picture(self._name, lines), raw=True, metadata=SHOWN_AT)
            self._drawn = len(lines)
        return time.perf_counter() - began


def _picture(name: str, lines: Lines) -> dict[str, Any]:
    """Returns the curves of a run as a notebook takes pictures: as content by type."""
    names = dict.fromkeys(name for line in lines for name in line)
    found = {end: [name for name in names if name.rpartition("/")[2] == end] for end in SCALARS}
    figure = Curves({name: lines}, found).figure(figures.in_thread)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    last = ", ".join(f"{key} {value:.4g}" for key, value in lines[-1].items())
    return {"image/png": file.getvalue(), "text/plain": last}


class _Bar(io.TextIOBase):
    """A file in which a line that is written replaces the one before.

    Attributes:
        below: a second line, shown from the next write on.
    """

    encoding = "utf-8"  # tqdm asks whether it can take blocks

    def __init__(self) -> None:
        self.below = ""

    def show(self) -> None:
        self._shown = _show("")

    def write(self, text: str) -> int:
        if line := text.strip():  # tqdm also moves the cursor, and blanks the line
            self._shown.update({"text/plain": f"{line}\n{self.below}"}, raw=True)
        return len(text)


def _show(text: str) -> Any:
    """Shows a text in the output of the cell, and returns the handle that replaces it."""
    from IPython.display import display  # here, as only notebooks need to have it

    return display({"text/plain": text}, raw=True, display_id=True)
