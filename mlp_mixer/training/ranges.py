"""Allowed values of config fields, with words for them in messages."""

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple


class Field(NamedTuple):
    """The values that a field may have.

    Attributes:
        may_be: the values in words, for messages.
        allows: returns whether a value is allowed.
        may_change: whether a run may continue with another value, because the trained parameters do
            not depend on it, except through the order in which floats are summed.
    """

    may_be: str
    allows: Callable[[Any], bool]
    may_change: bool = False


def number(low: float, high: float = math.inf, *, over: bool = False, under: bool = False) -> Field:
    """Allows finite numbers from `low` to `high`; `over` or `under` exclude the low or high end."""

    def allows(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        is_inside = low <= value <= high and math.isfinite(value)
        return is_inside and not (over and value == low) and not (under and value == high)

    words = f"over {low:g}" if over else f"from {low:g}"
    if high < math.inf:
        words += f" to {'under ' * under}{high:g}"
    elif not over:
        words += " on"
    return Field(f"a number {words}", allows)


def whole(low: int, high: float = math.inf) -> Field:
    """Allows integers from `low` to `high`."""

    def allows(value: Any) -> bool:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return is_whole and low <= value <= high

    return Field(f"a whole number from {low} {'on' if high == math.inf else f'to {high}'}", allows)


def one_of(values: Collection[Any]) -> Field:
    """Allows these values, which must have the same type."""
    values = tuple(values)
    shown = [str(value) or '""' for value in values]
    words = [", ".join(shown[:-1]), shown[-1]]
    return Field(
        " or ".join(words),
        lambda value: type(value) is type(values[0]) and value in values,
    )


def several(one: Field, name: str) -> Field:
    """Allows tuples of one or more values that `one` allows."""
    return Field(
        f"one or more {name}, each {one.may_be}",
        lambda values: isinstance(values, tuple) and bool(values) and all(map(one.allows, values)),
    )


def free(field: Field) -> Field:
    """Returns the field with `may_change` set."""
    return field._replace(may_change=True)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(COUNT.allows, value))


FLAG = Field("True or False", lambda value: isinstance(value, bool))
TEXT = Field("a string", lambda value: isinstance(value, str))
NAME = Field("a string that is not empty", lambda value: isinstance(value, str) and value != "")
COUNT, COUNT_OR_NONE = whole(1), whole(0)
SIZE = Field("pixels, such as 224 or (160, 256) for height and width", _is_pair)
SIZE_OR_NONE = Field(f"() or {SIZE.may_be}", lambda value: value == () or _is_pair(value))
SHARE = number(0, 1)
RATE = number(0, 1, under=True)
NOT_NEGATIVE = number(0)
