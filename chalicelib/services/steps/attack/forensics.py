"""The step that keeps what proves an attack, with a digest and a custodian for each thing.

    forensics/damaged.jsonl     each act against the bucket's objects: who, when, which version
    forensics/samples/<n>.bin   some damaged versions, byte for byte
    forensics/trail/<name>      CloudTrail's files of that time, as they were stored
    forensics/findings.json     what the watch and the run found, the isolation, the snapshots
    forensics/custody.json      all of it with its digest, source and time; written last

It lies in the incident's folder of the evidence bucket, under its Object Lock, and the seal covers
it. What is kept once is never written again: a repeated step reads it back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chalicelib.errors import LeewardError, Refused
from chalicelib.evidence.attack_entries import forensics_kept
from chalicelib.incidents.run import Run
from chalicelib.plan.records import format_time, parse_time
from chalicelib.ports.trail import TrailEvent
from chalicelib.recover.attack.infection import Infection
from chalicelib.recover.attack.isolate import read_cuts
from chalicelib.services import build
from chalicelib.services.jobs.buckets import bucket_component
from chalicelib.services.steps.attack.infection import WRITES, found_by, judgement_of, trail
from chalicelib.services.steps.said import say

FOLDER = "forensics"
MANIFEST = "custody.json"
# Enough to show how it encrypts; all of them stay below the restored ones as versions.
SAMPLES = 20
SAMPLE_BYTES = 8 << 20
TRAIL_FILES = 2000
TRAIL_BYTES = 256 << 20


@dataclass
class Custody:
    """What was taken so far, and what could not be."""

    run: Run
    items: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def keep(self, name: str, data: bytes, *, what: str, source: str) -> None:
        """Store it once. An earlier attempt's stays, and its own digest is written down."""
        key = f"{self.run.incident_id}/{FOLDER}/{name}"
        store = build.evidence_store()
        try:
            store.put(key, data, if_absent=True)
        except Refused as error:
            if error.instance_code != "exists":
                raise
            data = store.get(key)
        self.items.append(
            {
                "what": what,
                "object": f"{FOLDER}/{name}",
                "source": source,
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "taken_at": format_time(build.clock().now()),
                "by": "leeward",
                "run": self.run.run_id,
            }
        )


def keep_step(run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
    """Keep everything that can be; what cannot be is named, and fails nothing: the rest counts."""
    component, since = inputs["component"], parse_time(inputs["started_at"])
    custody, infection = Custody(run), found_by(run)
    acts = _acts(component, since, infection, custody)
    lines = "".join(json.dumps(it.to_json(), ensure_ascii=False) + "\n" for it in acts)
    custody.keep(
        "damaged.jsonl", lines.encode(), what="acts against the bucket's objects", source="trail"
    )
    _keep_samples(component, acts, custody)
    _keep_trail(since, custody)
    custody.keep(
        "findings.json", _findings(component, infection), what="findings", source="leeward"
    )
    manifest = {
        "incident": run.incident_id,
        "component": component,
        "since": format_time(since),
        "items": custody.items,
        "snapshots": _snapshots(),
        "left": custody.left,
    }
    return _seal(run, custody, manifest)


def _seal(run: Run, custody: Custody, manifest: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(manifest, indent=1, sort_keys=True).encode()
    custody.keep(MANIFEST, data, what="chain of custody", source="leeward")
    sealed = custody.items[-1]
    counts = {"items": len(custody.items) - 1, "snapshots": len(manifest["snapshots"])}
    say(
        run,
        forensics_kept(
            manifest=sealed["object"], sha256=sealed["sha256"], counts=counts, left=custody.left
        ),
    )
    left = f"; NOT KEPT: {'; '.join(custody.left)}" if custody.left else ""
    return {
        "found": f"{counts['items']} items and {counts['snapshots']} snapshots in custody,"
        f" {sealed['object']} with SHA-256 {sealed['sha256'][:16]}...{left}",
        "manifest": sealed["object"],
        "items": counts["items"],
        "left": custody.left,
    }


def _acts(
    component: str, since: datetime, infection: Infection | None, custody: Custody
) -> list[TrailEvent]:
    """What the attackers did to objects since it began, oldest first."""
    source, bucket = trail(), bucket_component(component).bucket
    vector = infection.vector if infection else {}
    if source is None or not vector:
        custody.left.append("who wrote which version: no trail names the attacker")
        return []
    mine = {vector["key"]}
    found = source.read(
        since,
        build.clock().now(),
        lambda it: (
            it.bucket == bucket
            and it.key_id in mine
            and it.address == vector["address"]
            and not it.read_only
        ),
    )
    return sorted(found, key=lambda it: (it.at, it.id))


def _keep_samples(component: str, acts: list[TrailEvent], custody: Custody) -> None:
    bucket, number = bucket_component(component).bucket, 0
    for act in acts:
        if act.name not in WRITES or number == SAMPLES:
            continue
        try:
            data = _version(bucket, act)
        except LeewardError as error:
            custody.left.append(f"{act.key} {act.version_id}: {error.instance_code}")
            continue
        source = f"s3://{bucket}/{act.key}?versionId={act.version_id}"
        custody.keep(f"samples/{number:03}.bin", data, what="a damaged version", source=source)
        number += 1


def _version(bucket: str, act: TrailEvent) -> bytes:
    from chalicelib.adapters.aws_errors import mapped

    which = {"VersionId": act.version_id} if act.version_id else {}
    with mapped("s3", bucket=bucket, key=act.key):
        answer = build.s3().get_object(
            Bucket=bucket, Key=act.key, Range=f"bytes=0-{SAMPLE_BYTES - 1}", **which
        )
        body: bytes = answer["Body"].read()
    return body


def _keep_trail(since: datetime, custody: Custody) -> None:
    source, taken = trail(), 0
    if source is None:
        custody.left.append("the trail: the plan names none")
        return
    for number, file in enumerate(source.files(since, build.clock().now())):
        if number == TRAIL_FILES or taken + file.size_bytes > TRAIL_BYTES:
            custody.left.append(f"files of the trail from {file.key} on: copy them by hand")
            return
        taken += file.size_bytes
        name = file.key.rpartition("/")[2]
        data = source.content(file.key)
        custody.keep(f"trail/{name}", data, what="a file of the trail", source=file.key)


def _findings(component: str, infection: Infection | None) -> bytes:
    judgement = judgement_of(component)
    found = {
        "judgement": judgement.to_json() if judgement else None,
        "infection": infection.to_json() if infection else None,
        "isolation": [it.to_json() for it in _cuts()],
    }
    return json.dumps(found, indent=1, sort_keys=True).encode()


def _cuts() -> Iterator[Any]:
    for name in build.plan().components:
        yield from read_cuts(build.state(), name)


def _snapshots() -> list[dict[str, str]]:
    """Kept by EC2: evidence is what their ids name."""
    return [
        {"snapshot": made, "of": cut.target, "run": cut.run_id, "at": format_time(cut.at)}
        for cut in _cuts()
        for made in cut.made
    ]
