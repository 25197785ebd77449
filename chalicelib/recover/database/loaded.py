"""What a load made on the target, and what of it is not as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chalicelib.plan.records import Record


@dataclass(frozen=True)
class Loaded(Record):
    """`left_out`: extensions that the operator's role may not create on the target. `tablespaces`:
    those that it may not use there, or that are gone; with one, all is in the default one."""

    database: str
    tables: int
    rows: int
    left_out: tuple[str, ...]
    seconds: dict[str, float]
    tablespaces: tuple[str, ...] = ()


def tell_left_out(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """(what is not as it was, why) for a person who can mend it."""
    for extension in loaded.left_out:
        mend = f"a superuser must: CREATE EXTENSION {extension} in {loaded.database}"
        yield (
            f"extension {extension} was left out",
            (f"the operator's role may not create it; {mend}"),
        )
    for name in loaded.tablespaces:
        yield (
            "all is in the default tablespace",
            (f"tablespace {name} is gone, or the operator's role may not create in it"),
        )
