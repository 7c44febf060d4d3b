"""Parts of a split, with TFDS's notation and checks: train, train[:98%], train[1000:2000]."""

import logging
import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from mlp_mixer.data.listing import say_once

_POSITION = r"(-?\d+(?:\.\d+)?%|-?\d+|)"
_PART = re.compile(rf"([\w-]+)(?:\[{_POSITION}:{_POSITION}\])?")


# Of the splits that are not for training a data set often has only one, under any of these names.
SAME = {
    "test": ("val", "validation", "valid"),
    "val": ("validation", "valid", "test"),
    "validation": ("val", "valid", "test"),
}


class Part(NamedTuple):
    """Part of a split. `start` and `stop` are such as "98%" or "-500"; "" for an end of it."""

    text: str  # as it was written
    split: str
    start: str = ""
    stop: str = ""

    @property
    def is_whole(self) -> bool:
        return self.text == self.split

    def of(self, count: int, name: str) -> range:
        """Returns the positions of the part's examples in the whole split.

        Args:
            count: number of examples in the whole split.
            name: name of the data set, for messages.

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
    """Parses a split or a part of one, but not several joined with a +.

    Raises:
        ValueError: the syntax is wrong, or mixes numbers of examples with percentages.
    """
    match = _PART.fullmatch(text)
    if not match:
        raise ValueError(f"cannot read split {text!r}; write it like train, test or train[:98%]")
    part = Part(text, match[1], match[2] or "", match[3] or "")
    units = {end.endswith("%") for end in (part.start, part.stop) if end.strip("-0")}
    if len(units) > 1:
        raise ValueError(f"split {text!r} mixes a number of examples with %; write both alike")
    return part


def first(split: str, is_there: Callable[[str], bool], name: str) -> str | None:
    """Returns the split itself or the first that can stand in for it, None if none is there.

    Args:
        split: name of the split, as it was asked for.
        is_there: whether the data set has a split of a name.
        name: name of the data set, for the line in the log about a stand-in.
    """
    for known in (split, *SAME.get(split, ())):
        if is_there(known):
            if known != split:
                say_once(logging.INFO, f"{name}: has no split {split}; {known} is used instead")
            return known
    return None


def find(split: str, there: Collection[str], name: str) -> str:
    """Returns the name that a split has in a data set, where val may be called validation.

    Args:
        split: name of the split, as it was asked for.
        there: names of the data set's splits.
        name: name of the data set, for messages.

    Raises:
        ValueError: the data set has no such split.
    """
    found = first(split, there.__contains__, name)
    if found is None:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(there) or 'none'}")
    return found


def cut_choice(argument: str) -> tuple[str, str]:
    """Cuts NAME#CHOICE in two; the choice, of a label's column, is "" if there is none."""
    name, mark, choice = argument.rpartition("#")
    return (name, choice) if mark and "/" not in choice else (argument, "")


def _position(text: str, default: int, count: int, what: str) -> int:
    if not text:
        return default
    number = float(text[:-1]) if text.endswith("%") else int(text)
    if abs(number) > (100 if text.endswith("%") else count):
        raise ValueError(f"{what} reaches beyond the {count} examples of the split")
    position = round(number * count / 100) if text.endswith("%") else int(number)
    return position + count if position < 0 else position
