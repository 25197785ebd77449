"""What `leeward verify` found in all locations, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chalicelib.errors import LeewardError

if TYPE_CHECKING:
    from chalicelib.verify.copies.integrity import CheckResult
    from chalicelib.verify.copies.locations import Comparison
    from chalicelib.verify.copies.repair import RepairAction
    from chalicelib.verify.copies.repair_run import RepairResult
    from chalicelib.verify.copies.replica import ReplicaResult


@dataclass
class Found:
    """What the checks of all locations said. `silent`: locations that did not answer. `replicas`
    of buckets: component, location, None where no inventory tells what should be there."""

    checks: list[CheckResult] = field(default_factory=list)
    silent: list[tuple[str, str, LeewardError]] = field(default_factory=list)
    replicas: list[tuple[str, str, ReplicaResult | None]] = field(default_factory=list)
    repairs: dict[str, RepairResult] = field(default_factory=dict)
    planned: dict[str, tuple[RepairAction, ...]] = field(default_factory=dict)
    after: list[CheckResult] = field(default_factory=list)
    comparisons: dict[str, Comparison] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        last = {(it.component, it.location): it for it in (*self.checks, *self.after)}
        replicas = all(it is not None and it.ok for _, _, it in self.replicas)
        equal = all(it.equal for it in self.comparisons.values())
        checked = bool(last) and all(it.ok for it in last.values())
        return checked and not self.silent and not self.lost and replicas and equal

    @property
    def lost(self) -> bool:
        """Whether a point was given up: a check looks at none that is quarantined."""
        done = (item for it in self.repairs.values() for item in it.repaired)
        return any(item.outcome == "quarantined" for item in done)

    def has_mended(self, check: CheckResult) -> bool:
        """Whether it did not look at what is free by now."""
        done = self.repairs[check.component].repaired if check.component in self.repairs else ()
        mended = (it.action.location for it in done if it.outcome == "mended")
        return check.location in mended

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "checks": [it.to_json() for it in self.checks],
            "silent": [
                {"component": component, "location": location, "error": error.to_json()}
                for component, location, error in self.silent
            ],
            "replicas": [
                {"component": component, "location": location, "ok": bool(it and it.ok)}
                | {"result": it and it.to_json()}
                for component, location, it in self.replicas
            ],
            "repairs": {name: it.to_json() for name, it in self.repairs.items()},
            "planned": {
                name: [it.to_json() for it in actions] for name, actions in self.planned.items()
            },
            "after": [it.to_json() for it in self.after],
            "comparisons": {
                name: it.to_json() | {"equal": it.equal} for name, it in self.comparisons.items()
            },
        }
