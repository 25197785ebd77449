"""Rules on copies that must be readable on the day that everything else is lost."""

from __future__ import annotations

from datetime import datetime

from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.model import Plan


def find_sealed_for_aws_alone(plan: Plan, now: datetime) -> Hits:
    for name, location in plan.locations.items():
        key = location.encryption.key if location.encryption else None
        if location.provider in ("gcp", "azure") and not (key and key.public_key):
            yield (
                ("locations", name),
                f"copies in {name} are sealed for keys in AWS alone: they outlive AWS, and nobody "
                "can open them then",
            )


RULES = (
    Rule(
        "LW084",
        "error",
        "Copies outside AWS that open only with AWS",
        "make an offline key (`leeward keys create`) and state its half as `public_key`",
        find_sealed_for_aws_alone,
    ),
)
