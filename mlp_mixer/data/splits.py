"""Parts of a split, written and refused as TFDS does: train, train[:98%], train[1000:2000]."""

import re
from typing import NamedTuple

_POSITION = r"(-?\d+(?:\.\d+)?%|-?\d+|)"
_PART = re.compile(rf"([\w-]+)(?:\[{_POSITION}:{_POSITION}\])?")


class Part(NamedTuple):
    """A split's name and where the part starts and stops: "98%", "-500", "" for an end of it."""

    text: str
    split: str
    start: str = ""
    stop: str = ""

    @property
    def is_whole(self) -> bool:
        return self.text == self.split

    def of(self, count: int, name: str) -> range:
        """Positions of the part's examples in a split that has `count`.

        Args:
            count: examples of the whole split.
            name: the data set's, for messages.

        Raises:
            ValueError: the part reaches beyond the split, or is empty.
        """
        start, stop = (
            _position(text, default, count, f"{name}: the part {self.text!r}")
            for text, default in ((self.start, 0), (self.stop, count))
        )
        if start >= stop:
            raise ValueError(f"{name}: split {self.text!r} of {count} examples is empty")
        return range(start, stop)


def parse(text: str) -> Part:
    """Reads a split, or a part of one; several joined with a + are to be taken apart before.

    Raises:
        ValueError: it is not written so, or mixes examples and percent.
    """
    match = _PART.fullmatch(text)
    if not match:
        raise ValueError(f"cannot read split {text!r}; write it like train, test or train[:98%]")
    part = Part(text, match[1], match[2] or "", match[3] or "")
    units = {end.endswith("%") for end in (part.start, part.stop) if end.strip("-0")}
    if len(units) > 1:
        raise ValueError(f"split {text!r} mixes a number of examples with %; write both alike")
    return part


def _position(text: str, default: int, count: int, what: str) -> int:
    if not text:
        return default
    number = float(text[:-1]) if text.endswith("%") else int(text)
    if abs(number) > (100 if text.endswith("%") else count):
        raise ValueError(f"{what} reaches beyond the {count} examples of the split")
    position = round(number * count / 100) if text.endswith("%") else int(number)
    return position + count if position < 0 else position
