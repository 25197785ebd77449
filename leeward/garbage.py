"""Python's collector of cycles, told what the work is like."""

from __future__ import annotations

import gc


def expect_many_rows() -> None:
    """For commands that hold rows of listings by the ten thousand, none of them in a cycle.

    Looking for cycles among them again and again takes a quarter of such a command's processor
    time (measured: 1.7 s of an undo of 10,000 keys, 1.3 s without); memory stays where it was.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
