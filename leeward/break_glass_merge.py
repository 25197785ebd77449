"""The records of a failover from a laptop, brought into the evidence once that can be reached."""

from __future__ import annotations

from pathlib import Path

from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.traffic.switch_history import StoredSwitches
from chalicelib.errors import BadInput
from chalicelib.evidence.records import StoredRecords
from chalicelib.plan.records import EvidenceRecord
from chalicelib.ports import Clock, ObjectStore
from chalicelib.ports.traffic import Switch


def read_chain(folder: Path, clock: Clock) -> list[EvidenceRecord]:
    """The records of the one incident in the folder, whole and in order.

    Raises BadInput (code "no-records"), Tampered.
    """
    return StoredRecords(FolderObjectStore(folder), clock).read(incident_in(folder))


def incident_in(folder: Path) -> str:
    """Raises BadInput (code "no-records")."""
    found = sorted(it.name for it in folder.glob("inc-*") if (it / "records").is_dir())
    if len(found) != 1:
        raise BadInput(
            f"expected the records of one incident in {folder}, found {len(found)}",
            hint="name the folder that `leeward break-glass` wrote",
            code="no-records",
        )
    return found[0]


def merge(
    folder: Path, evidence: ObjectStore, switches: ObjectStore, incident: str, *, clock: Clock
) -> tuple[str, int]:
    """Bring the records into an incident's evidence, and the switch into its history.

    Each record is kept whole, with its own time and digest, in one of the incident's. Doing it
    again adds nothing.

    Returns:
        the incident, and how many records it has of the folder now.
    """
    chain = read_chain(folder, clock)
    stream = incident or incident_in(folder)
    records = StoredRecords(evidence, clock)
    for record in chain:
        body = {"record": record.to_json()}
        records.append(
            stream, "break-glass", body, actor=record.actor, run_id=record.run_id,
            step=record.step, key=f"break-glass/{record.digest}",
        )  # fmt: skip
        outputs = record.body.get("outputs", {})
        if record.kind == "step-finished" and "changed" in outputs:
            StoredSwitches(switches, outputs["component"]).add(Switch.from_json(outputs["switch"]))
    return stream, len(chain)
