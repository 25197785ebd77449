"""The seal on an incident's evidence: bundle.json, with the digest of everything and a signature.

    records (read, chain checked) + every other object of the incident (read, digested)
        -> Bundle -> statement of one line -> signed by a key that never leaves KMS -> bundle.json

bundle.json has one byte form (indented canonical JSON) and holds its own digest, so no byte of it
can change unseen. The signature is over `statement`, so that it can be checked with openssl alone.
Sealing again after more was recorded replaces the bundle; a bundle covers what it names, no more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.errors import NotReady, Tampered
from chalicelib.evidence.body import last_body, text_of
from chalicelib.evidence.chain import encode_record
from chalicelib.evidence.records import record_key
from chalicelib.evidence.shape import has_shape
from chalicelib.plan.records import EvidenceRecord, Record, Signature, StoredObject, digest_of
from chalicelib.ports import ObjectStore, Records, Signer

BUNDLE_NAME = "bundle.json"

_SHAPE = {
    "bundle": {
        "incident": str,
        "made_at": str,
        "tool": str,
        "plan_sha256": str,
        "chain_length": int,
        "chain_head": str,
        "files": [{"key": str, "size_bytes": int, "sha256": str}],
    },
    "digest": str,
}
_SIGNATURE_SHAPE = dict.fromkeys(("algorithm", "key_id", "public_key", "fingerprint", "value"), str)
_NONE = type(None)


@dataclass(frozen=True)
class Bundle(Record):
    """What is sealed. `files` by name, relative to the incident's folder; the bundle is not one.

    `chain_head`: digest of the last of `chain_length` records. `plan_sha256`: of the plan that the
    last run followed, "" when there was none. `tool`: name and version of what sealed it.
    """

    incident: str
    made_at: datetime
    tool: str
    plan_sha256: str
    chain_length: int
    chain_head: str
    files: tuple[StoredObject, ...]

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "files":
            return tuple(StoredObject.from_json(item) for item in value)
        return super()._revive(name, value)


def statement(bundle: Bundle) -> bytes:
    """What is signed: one line of text with the SHA-256 of the bundle's canonical JSON."""
    digest = digest_of(bundle.to_json())
    return f"leeward evidence of {bundle.incident} sha256 {digest}\n".encode()


def encode_bundle(bundle: Bundle, signature: Signature | None) -> bytes:
    """bundle.json: {"bundle", "signature" (null when there is none), "digest" of the two}."""
    sealed: dict[str, Any] = {
        "bundle": bundle.to_json(),
        "signature": signature.to_json() if signature else None,
    }
    whole = sealed | {"digest": digest_of(sealed)}
    return json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def parse_bundle(data: bytes) -> tuple[Bundle, Signature | None] | None:
    """The inverse of `encode_bundle`; None for bytes that it would not have written."""
    try:
        whole = json.loads(data)
        shape = _SHAPE | {"signature": _SIGNATURE_SHAPE}
        if not has_shape(whole, shape) and not has_shape(whole, shape | {"signature": _NONE}):
            return None
        given = whole["signature"]
        bundle = Bundle.from_json(whole["bundle"])
        signature = Signature.from_json(given) if given else None
        return (bundle, signature) if encode_bundle(bundle, signature) == data else None
    except (ValueError, RecursionError):
        return None


def seal(
    incident: str,
    *,
    store: ObjectStore,
    records: Records,
    signer: Signer | None,
    tool: str,
    now: datetime,
) -> Bundle:
    """Digest everything that lies under the incident, sign that, and write bundle.json.

    Safe to repeat: what it writes depends on what lies there alone, but for `now` and the
    signature.

    Args:
        store: the evidence, all incidents; this one's objects begin with "<incident>/".
        signer: None where no key is configured; verification then says so.
    Raises:
        NotReady: the incident has no records.
        Tampered: its chain is broken; nothing is sealed.
    """
    chain = records.read(incident)
    if not chain:
        raise NotReady(
            f"{incident} has no records to seal",
            hint="check the incident's id and the evidence bucket",
            code="no-records",
        )
    bundle = Bundle(
        incident=incident,
        made_at=now,
        tool=tool,
        plan_sha256=text_of(last_body(chain, "run-started"), "plan_sha256"),
        chain_length=len(chain),
        chain_head=chain[-1].digest,
        files=tuple(sorted(_files(incident, store, chain), key=lambda file: file.key)),
    )
    signature = signer.sign(statement(bundle)) if signer else None
    store.put(f"{incident}/{BUNDLE_NAME}", encode_bundle(bundle, signature))
    return bundle


def copy_evidence(incident: str, store: ObjectStore, folder: Path) -> Path:
    """Write everything of the incident to `folder`, for `leeward evidence verify`.

    Raises:
        Tampered: an object's name leads out of the folder.
    """
    for listed in store.list(f"{incident}/"):
        target = folder / listed.key.removeprefix(f"{incident}/")
        if not target.resolve().is_relative_to(folder.resolve()):
            raise Tampered(
                f"expected only names below {incident}/, found {listed.key!r}",
                code="not-a-plain-file",
                hint="find out who could write to the evidence bucket; nothing was written there",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            file.writelines(store.read(listed.key))
    return folder


def _files(
    incident: str, store: ObjectStore, chain: list[EvidenceRecord]
) -> Iterator[StoredObject]:
    """What lies among the records and is none is sealed as it is: a verification names it."""
    prefix, names = f"{incident}/", set()
    for record in chain:
        data = encode_record(record)
        name = record_key(incident, record.seq).removeprefix(prefix)
        names.add(name)
        yield StoredObject(name, len(data), hashlib.sha256(data).hexdigest())
    for listed in store.list(prefix):
        name = listed.key.removeprefix(prefix)
        if name != BUNDLE_NAME and name not in names:
            yield _digest(name, store.read(listed.key))


def _digest(name: str, chunks: Iterator[bytes]) -> StoredObject:
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
    return StoredObject(name, size, sha256.hexdigest())
