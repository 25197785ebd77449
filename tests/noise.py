"""Bytes without order, the same in every run: what judges randomness errs once in so many draws."""

from __future__ import annotations

from random import Random


def noise(size: int, seed: int | str = 0) -> bytes:
    """The bytes of one size and seed are always the same ones."""
    return Random(f"{seed}/{size}").randbytes(size)
