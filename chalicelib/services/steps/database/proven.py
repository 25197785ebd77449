"""What a run has verified: nothing else of a database is loaded or handed over."""

from __future__ import annotations

from chalicelib.errors import Refused
from chalicelib.incidents.run import Run
from chalicelib.plan.records import Proof, RecoveryTarget
from chalicelib.services import build


def require_proven(run: Run, component: str, target: RecoveryTarget) -> None:
    """Raises Refused (code "not-proven") when the run's last verification of the component was
    not good, or was of another moment."""
    proofs = [
        Proof.from_json(it.body)
        for it in build.records().read(run.incident_id)
        if it.run_id == run.run_id and it.kind == "proof" and it.body["component"] == component
    ]
    proof = proofs[-1] if proofs else None
    if proof is None or not proof.ok or proof.target != target:
        raise Refused(
            f"expected a verified recovery to {target.kind} {target.value}, "
            f"found {'a failed one' if proof and not proof.ok else 'none'} in the run's record",
            code="not-proven",
            hint="Put database.verify, with the same target, before this step in the plan.",
        )
