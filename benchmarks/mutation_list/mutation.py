"""What a mutation is."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """A line of the code, and a wrong one to put in its place.

    Attributes:
        breaks: what is wrong with it, in words.
        file: that it is in.
        old: text that occurs there once.
        new: what replaces it.
        tests: arguments of pytest for the tests that should fail.
    """

    breaks: str
    file: str
    old: str
    new: str
    tests: str
