"""Matches the classes of two lists by their names; a number is only a place in one list.

Some lists give ImageNet's classes by WordNet id (n01440764), others by readable name (tench); both
are known here. The readable names are not unique: crane and maillot appear twice.
"""

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mlp_mixer.models.known_classes import imagenet, imagenet21k

log = logging.getLogger(__name__)

MOST = 8  # names that a message lists at most


def match(
    have: Sequence[str] | int, want: Sequence[str], have_is: str, want_is: str
) -> np.ndarray | None:
    """Finds the place of each class of `want` in `have`, so that have[order[i]] is want[i].

    Args:
        have: the classes of a model's outputs. If they are unknown, their number; then only the
            numbers of classes are compared, and a warning is logged.
        want: the classes of the data.
        have_is, want_is: what to call the owners of the classes in messages, such as "runs/mine".

    Returns:
        int [n], or None if both lists have the same order.

    Raises:
        ValueError: the classes are not the same; says which differ.
    """
    if isinstance(have, int):
        if have != len(want):
            raise ValueError(
                f"{have_is} tells {have} classes apart, {want_is} has {len(want)} classes"
            )
        log.warning("%s does not say what its %d classes are: they are taken to be those of %s, in "
                    "the same order", have_is, have, want_is)  # fmt: skip
        return None
    have, want = tuple(have), tuple(want)
    if have == want:
        return None
    if Counter(have) != Counter(want):
        have, want = _known_ids(have, want) or (have, want)
    if problem := _differences(have, want, have_is, want_is):
        raise ValueError(problem)
    place = {name: i for i, name in enumerate(have)}
    order = np.asarray([place[name] for name in want])
    return None if np.array_equal(order, np.arange(len(order))) else order


def relabel(labels: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Renumbers labels, int [n] or multi-hot [n, k], from the data's order to the outputs'.

    `order` is what `match` returned.
    """
    if order is None:
        return labels
    if labels.ndim > 1:
        return labels[:, np.argsort(order)]
    return order[labels].astype(labels.dtype)


def _differences(
    have: tuple[str, ...], want: tuple[str, ...], have_is: str, want_is: str
) -> str | None:
    if set(have) == set(want) and len(have) == len(want):
        if twice := [name for name, count in Counter(have + want).items() if count > 2]:
            return (
                f"{have_is} and {want_is} have classes in another order, and {_some(twice)} stands "
                "for more than one; give the classes of both names that differ"
            )
        return None
    only_have, only_want = Counter(have) - Counter(want), Counter(want) - Counter(have)
    if only_have and only_want:
        return (
            f"{want_is} has other classes than {have_is}. Only {want_is}, with {len(want)} "
            f"classes, has {_some(only_want)}; only {have_is}, with {len(have)} classes, has "
            f"{_some(only_have)}"
        )
    said = (
        f"{want_is} has other classes than {have_is}: their numbers differ, {len(want)} and "
        f"{len(have)}. Only {have_is if only_have else want_is} has "
        f"{_some(only_have or only_want)}"
    )
    if only_have:
        said += (
            f". If {want_is} has images of some of the classes only, put a classes.txt that lists "
            f"all {len(have)} names of {have_is}, one a line, into the folder of the data"
        )
    return said


def _known_ids(
    have: tuple[str, ...], want: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Returns both lists as WordNet ids, if one known list contains all of their names."""
    for ids, names in (imagenet(), imagenet21k()):
        have_ids, want_ids = (_ids(classes, ids, names) for classes in (have, want))
        if have_ids and want_ids:
            return have_ids, want_ids
    return None


def _ids(
    classes: tuple[str, ...], ids: tuple[str, ...], names: tuple[str, ...]
) -> tuple[str, ...] | None:
    if classes == names:
        return ids
    unique = {name for name, count in Counter(names).items() if count == 1}
    known = {name: i for name, i in zip(names, ids, strict=True) if name in unique}
    known |= dict(zip(ids, ids, strict=True))
    return tuple(known[name] for name in classes) if known.keys() >= set(classes) else None


def _some(names: Counter | list[str]) -> str:
    names = list(names)
    more = len(names) - MOST
    return ", ".join(map(repr, names[:MOST])) + (f" and {more} more" if more > 0 else "")
