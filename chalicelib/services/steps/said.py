"""Records of what a step found or decided."""

from __future__ import annotations

from chalicelib.evidence.entries import Entry
from chalicelib.incidents.run import Run
from chalicelib.services import build


def say(run: Run, entry: Entry, *, about: str = "") -> None:
    """Record it once, however often the step is done. `about` tells entries of a kind apart."""
    build.records().append(
        run.incident_id,
        *entry,
        actor="leeward",
        run_id=run.run_id,
        step=run.step,
        key=f"{run.run_id}/{run.step}/{entry.kind}/{about}",
    )
