"""Many writes decide, not one: when did writes begin to look encrypted more often than usual?

A cumulative sum (Page's CUSUM) of log-likelihood ratios over the sampled writes in their order:
each flagged write adds, each clean one takes away, and the sum never falls below zero. It is the
quickest detector of a change at a given rate of false alarms, and where it last left zero is the
most likely beginning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chalicelib.plan.records import Record, format_time, parse_time
from chalicelib.plan.signs import Sign

# The share of flagged writes during an attack that is looked for: a fast one among other writes,
# and one that hides at 1 write in 50.
ATTACK_RATES = (0.2, 0.02)
# Where writes are flagged too often by habit to tell either of these from it: a fast one that does
# little else.
DENSE_RATE = 0.5
# What legitimate writes are flagged at, at least; docs/ransomware.md measured less for both.
STRONG_RATE = 0.002
WEAK_RATE = 0.005
# exp(-16) = 1e-7 bounds the false alarms per write while writes are independent, which uploads of
# one person are not: hence also a least number.
CERTAIN = 16.0
CERTAIN_COUNT = 10
LIKELY = 8.0
LIKELY_COUNT = 4
# Above it the content of this bucket says nothing: its own writes look encrypted.
BLIND_RATE = 0.1
MOST_FLAGGED = 200


@dataclass(frozen=True)
class Flagged(Record):
    """A sampled write that looked encrypted. `number` counts the samples of the bucket, from 1."""

    number: int
    at: datetime
    key: str
    flag: str
    weight: str

    @classmethod
    def _revive(cls, name: str, value: object) -> object:
        return parse_time(str(value)) if name == "at" else value


@dataclass(frozen=True)
class Run:
    """Flagged writes since the sum last left zero. `sum` is the log-likelihood ratio."""

    sum: float
    writes: tuple[Flagged, ...]


def find_run(flagged: Sequence[Flagged], sampled: int, usual_rate: float) -> Run:
    """The strongest run that lasts until now. `sampled`: samples taken so far, in all."""
    rates = [rate for rate in ATTACK_RATES if rate >= 4 * usual_rate] or [DENSE_RATE]
    runs = [_sum_up(flagged, sampled, usual_rate, rate) for rate in rates if rate > usual_rate]
    return max(runs, key=lambda run: run.sum, default=Run(0.0, ()))


def _sum_up(flagged: Sequence[Flagged], sampled: int, usual: float, attack: float) -> Run:
    up, down = math.log(attack / usual), math.log((1 - usual) / (1 - attack))
    total, start, last = 0.0, 0, 0
    for place, write in enumerate(flagged):
        total -= down * (write.number - last - 1)
        if total <= 0:
            total, start = 0.0, place
        total, last = total + up, write.number
    total -= down * (sampled - last)
    return Run(total, tuple(flagged[start:])) if total > 0 and flagged else Run(0.0, ())


def find_encryption(
    bucket: str, flagged: Sequence[Flagged], sampled: int, rates: dict[str, float]
) -> list[Sign]:
    """Args: rates: "strong" and "weak" -> at what rate this bucket's own writes are flagged."""
    strong = [write for write in flagged if write.weight == "strong"]
    found = [
        _sign(bucket, "writes-belie-themselves", find_run(strong, sampled, rates["strong"]),
              (0.99, 0.8, 0.3)),
        _sign(bucket, "writes-look-encrypted", find_run(flagged, sampled, rates["weak"]),
              (0.85, 0.5, 0.2)),
    ]  # fmt: skip
    return [sign for sign in found if sign]


def _sign(bucket: str, detector: str, run: Run, scores: tuple[float, float, float]) -> Sign | None:
    if not run.writes:
        return None
    count = len(run.writes)
    certain, likely, faint = scores
    score = faint
    if run.sum >= LIKELY and count >= LIKELY_COUNT:
        score = certain if run.sum >= CERTAIN and count >= CERTAIN_COUNT else likely
    flags = sorted({write.flag for write in run.writes})
    start = min(write.at for write in run.writes)
    return Sign(
        detector, "content", score, bucket, start,
        f"{count} sampled writes since {start:%Y-%m-%d %H:%M:%S} UTC: {', '.join(flags)}",
        {
            "writes": count, "flags": flags, "log_likelihood_ratio": round(run.sum, 1),
            "keys": [write.key for write in run.writes[:10]],
            "last_at": format_time(max(write.at for write in run.writes)),
        },
    )  # fmt: skip
