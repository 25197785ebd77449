"""A version of an object beside the one it replaced: what an attack does to a key that was known.

An upload that looks encrypted may be somebody's encrypted upload. A photograph that was one
yesterday and is noise today is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chalicelib.plan.records import Record
from chalicelib.ports.samples import Sample, SampledWrite
from chalicelib.verify.signs.content import Look, look_at
from chalicelib.verify.signs.kinds import SEALED_KINDS

Weight = Literal["", "weak", "strong"]


@dataclass(frozen=True)
class WriteLook(Record):
    """What was found of one write. `flag` "" means that nothing speaks against it.

    weight "strong": a legitimate write does not do this (a known kind lost, a name belied); "weak":
    it looks encrypted, as an encrypted upload does. `grew_bytes`: against the version before, None
    without one.
    """

    key: str
    flag: str
    weight: Weight
    replaced: bool
    grew_bytes: int | None
    look: Look
    before: Look | None = None


def look_at_write(write: SampledWrite) -> WriteLook:
    """Judge one write that could be read, by itself and against what it replaced."""
    after = look_at(write.now.key, write.now.data)
    before = _look_before(write.before)
    flag = _change(before, after) if before else ""
    flag = flag or after.flag
    grew = write.now.size_bytes - write.before.size_bytes if before and write.before else None
    weight = _weigh(flag)
    return WriteLook(write.now.key, flag, weight, before is not None, grew, after, before)


def _look_before(sample: Sample | None) -> Look | None:
    return None if sample is None or sample.problem else look_at(sample.key, sample.data)


def _weigh(flag: str) -> Weight:
    if flag in ("", "note"):
        return ""
    return "weak" if flag in ("unknown", "encoded") else "strong"


def _change(before: Look, after: Look) -> str:
    """kind-lost, text-lost, noise-grew, or "" when the change is an ordinary one."""
    if before.encrypted or after.flag == "note":
        return ""
    if after.encrypted and (before.kind or before.text or not before.random):
        return "kind-lost"
    if after.kind in SEALED_KINDS and before.kind != after.kind:
        return "kind-lost"
    if before.text and after.random and not after.text and not after.kind:
        return "text-lost"
    if _noise_grew(before, after):
        return "noise-grew"
    return ""


def _noise_grew(before: Look, after: Look) -> bool:
    """Stretches that were not random are: the header may be kept and every fourth block encrypted.

    A new table in a program is one stretch, and less than half. A kind that packs its body is left
    to structure.py.
    """
    turned = "".join(
        "x" if was != "r" and now == "r" else "."
        for was, now in zip(before.windows, after.windows, strict=False)
    )
    count = turned.count("x")
    stretches = len(turned.replace(".", " ").split())
    return count >= 2 and (
        count * 2 >= len(turned) or (stretches >= 2 and count * 5 >= len(turned))
    )
