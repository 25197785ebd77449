"""A finished review: the run's report with what people say of it, and a seal over all three chains.

    review-<incident>/versions/<n>/
        report.html, report.md      the run's report and the people's part
        records/                    the review's own chain, up to the end of this version
        incident/records/           the incident's chain; incident/bundle.json, its own seal
        people/records/             who was told, called, and acknowledged
        bundle.json                 written last

The folder is whole in itself: `leeward evidence verify` needs nothing else. A version is never
written again; a correction is the next one, which names the digest of the one before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from chalicelib.errors import Refused, Truncated
from chalicelib.evidence.bundle import BUNDLE_NAME, Bundle, encode_bundle, statement
from chalicelib.evidence.chain import encode_record
from chalicelib.evidence.records import record_key
from chalicelib.evidence.review import INCIDENT_FOLDER, PEOPLE_FOLDER
from chalicelib.plan.records import EvidenceRecord, StoredObject
from chalicelib.ports import ObjectStore, Signer

Chain = Sequence[EvidenceRecord]


def version_prefix(stream: str, version: int) -> str:
    """Where a version lies; stream: of the review."""
    return f"{stream}/versions/{version}/"


def version_files(
    *, html: str, markdown: str, review: Chain, incident: Chain, people: Chain, bundle: bytes
) -> dict[str, bytes]:
    """All files of a version but its seal. bundle: the incident's own, b"" when there is none."""
    files = {"report.html": html.encode(), "report.md": markdown.encode()}
    for folder, chain in (("", review), (INCIDENT_FOLDER, incident), (PEOPLE_FOLDER, people)):
        for record in chain:
            files[record_key(folder, record.seq).lstrip("/")] = encode_record(record)
    return files | ({f"{INCIDENT_FOLDER}/{BUNDLE_NAME}": bundle} if bundle else {})


def seal_version(
    stream: str,
    version: int,
    files: Mapping[str, bytes],
    chain: Chain,
    *,
    store: ObjectStore,
    signer: Signer | None,
    tool: str,
    made_at: datetime,
) -> str:
    """Write the files, then the seal; the SHA-256 of the seal, of the one that lies there already
    when there is one.

    Args:
        chain: the review's, up to the end of this version.
    """
    prefix = version_prefix(stream, version)
    kept = read_seal(stream, version, store=store)
    if kept:
        return digest_of_seal(kept)
    for name, data in files.items():
        _write(prefix + name, data, store)
    bundle = Bundle(
        incident=stream,
        made_at=made_at,
        tool=tool,
        plan_sha256="",
        chain_length=len(chain),
        chain_head=chain[-1].digest,
        files=tuple(_stored(name, files[name]) for name in sorted(files)),
    )
    sealed = encode_bundle(bundle, signer.sign(statement(bundle)) if signer else None)
    try:
        store.put(prefix + BUNDLE_NAME, sealed, if_absent=True)
    except Refused as error:
        if error.instance_code != "exists":
            raise
        sealed = read_seal(stream, version, store=store)
    return digest_of_seal(sealed)


def _write(key: str, data: bytes, store: ObjectStore) -> None:
    """What lies there as it is stays: the bucket lets nobody write a record a second time."""
    try:
        store.put(key, data, if_absent=True)
    except Refused as error:
        if error.instance_code != "exists":
            raise
        if store.get(key) != data:
            store.put(key, data)


def read_seal(stream: str, version: int, *, store: ObjectStore) -> bytes:
    """The bundle.json of a version, b"" when it is not sealed."""
    return read_or_nothing(version_prefix(stream, version) + BUNDLE_NAME, store=store)


def read_or_nothing(key: str, *, store: ObjectStore) -> bytes:
    try:
        return store.get(key)
    except Truncated as error:
        if error.instance_code != "object-missing":
            raise
        return b""


def digest_of_seal(data: bytes) -> str:
    """SHA-256 in hex; "" of nothing."""
    return hashlib.sha256(data).hexdigest() if data else ""


def _stored(name: str, data: bytes) -> StoredObject:
    return StoredObject(name, len(data), hashlib.sha256(data).hexdigest())
