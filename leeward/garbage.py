"""Python's collector of cycles, told what the work is like."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Allocations until the young are looked through, and how often they until the older are.
SELDOM = (50_000, 20, 50)


def expect_many_rows() -> None:
    """For commands that hold rows of listings by the ten thousand, none of them in a cycle.

    Looking for cycles among them again and again takes a quarter of such a command's processor
    time (measured: 1.7 s of an undo of 10,000 keys, 1.3 s without), of a sync that copies nothing a
    tenth; memory stays where it was.
    """
    gc.freeze()
    gc.set_threshold(*SELDOM)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While the block runs, for a process that is a whole cloud.

    Looking through all that its services hold stops every one of them for a fifth of a second,
    several times in a drill (measured: 0.8 s of 7 s of processor time), and once in three between
    an alarm and the first step.
    """
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
