"""Is this evidence what was sealed? Needs nothing but its files, and a key that you already trust.

    bundle.json in its one byte form, its own digest -> every file named is there and unchanged,
    none is there that is not named -> the records form one whole chain that ends where the bundle
    says -> the signature is of the key inside -> that key is the one the caller trusts

What stands inside a bundle is believed only as far as the step before it holds. Anybody can make a
bundle that is whole in itself; only a key known from elsewhere shows who made this one.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from chalicelib.errors import BadInput, Damaged, Tampered
from chalicelib.evidence.body import last_body, text_of
from chalicelib.evidence.bundle import BUNDLE_NAME, Bundle, parse_bundle, statement
from chalicelib.evidence.chain import Finding, decode_record, verify_chain
from chalicelib.evidence.own_seal import OWN_SEAL, find_in_own_seal
from chalicelib.evidence.records import record_key
from chalicelib.evidence.review import FINISHED, INCIDENT_FOLDER, Head, chains_in
from chalicelib.plan.records import EvidenceRecord, Record, Signature, StoredObject

# No bundle.json or record that Leeward writes comes near; more is an attack on the reader.
_LARGEST_BYTES = 64 << 20

SignatureState = Literal["trusted", "key-not-given", "absent", "invalid", "unknown"]


class Files(Protocol):
    """The files of a bundle: a folder, or a zip of one."""

    def names(self) -> list[str]:
        """Every file, relative, with slashes. Raises Tampered for what is no plain file."""

    def read(self, name: str) -> Iterator[bytes]:
        """Raises Damaged when it cannot be read to its end."""


@dataclass(frozen=True)
class Verdict(Record):
    """What a verification found. Whole only without findings.

    `signature`: "trusted" (valid, by the key that the caller named), "key-not-given" (valid, by
    the key that stands in the bundle), "absent", "invalid", or "unknown" (it was not reached).
    `own_fingerprint`: of a review, of the key that sealed the incident before; "" where none did.
    """

    incident: str
    made_at: str
    tool: str
    records: int
    chain_head: str
    files: int
    signature: SignatureState
    key_id: str
    fingerprint: str
    own_fingerprint: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def proves(self) -> str:
        return _PROVES[self.signature] if self.ok else "nothing: it is not what was sealed"

    @property
    def does_not_prove(self) -> str:
        return _DOES_NOT_PROVE[self.signature] if self.ok else ""

    def to_json(self) -> dict[str, Any]:
        said = {"ok": self.ok, "proves": self.proves, "does_not_prove": self.does_not_prove}
        return said | super().to_json()


_PROVES = {
    "trusted": (
        "the holder of the key you named sealed exactly these files; none was changed, added or "
        "removed since"
    ),
    "key-not-given": (
        "the files agree with each other and with the signature: no accident changed them, and "
        "nobody did who has not replaced the key and the seal too"
    ),
    "absent": "the files agree with each other: no accident changed them",
}
_DOES_NOT_PROVE = {
    "trusted": "that what was recorded is true; it proves that it is what was recorded",
    "key-not-given": (
        "who made it: whoever replaces every file can sign with a key of their own; compare the "
        "fingerprint with one kept elsewhere, or pass it as --fingerprint"
    ),
    "absent": (
        "who made it, nor that nobody changed it: it is not signed, so whoever replaces every "
        "file can make a new seal; compare it with the bucket that has Object Lock"
    ),
}


def verify_evidence(files: Files, *, trusted: Collection[str] = ()) -> Verdict:
    """Check a bundle byte by byte.

    Args:
        trusted: fingerprints of the keys one of which must have signed it (SHA-256 of the public
            key's DER form, in hex); none accepts the one inside, and the verdict says what that is
            worth. Several where the signing key was replaced: a review's incident may have been
            sealed by the one before.
    """
    try:
        names = files.names()
        bundle, signature = _read_bundle(files, names)
    except (Damaged, Tampered) as error:
        return _unsealed(Finding(error.instance_code, BUNDLE_NAME, error.message))
    findings = [
        *_check_files(files, names, bundle),
        *_check_records(files, names, bundle, _Keys(signature, frozenset(trusted))),
    ]
    state, about_signature = _check_signature(bundle, signature, trusted)
    return Verdict(
        incident=bundle.incident,
        made_at=bundle.to_json()["made_at"],
        tool=bundle.tool,
        records=bundle.chain_length,
        chain_head=bundle.chain_head,
        files=len(bundle.files),
        signature=state,
        key_id=signature.key_id if signature else "",
        fingerprint=signature.fingerprint if signature else "",
        own_fingerprint=_own_fingerprint(files, names),
        findings=(*findings, *about_signature),
    )


def fingerprint_of(public_key_pem: bytes) -> str:
    """SHA-256 of the DER form (SubjectPublicKeyInfo) of a public key in PEM, in hex.

    Raises:
        BadInput: it is no public key in PEM.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_public_key,
    )

    try:
        key = load_pem_public_key(public_key_pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(
            "expected a public key in PEM, found something else",
            hint="pass the file that begins with -----BEGIN PUBLIC KEY-----",
        ) from error
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _read_bundle(files: Files, names: list[str]) -> tuple[Bundle, Signature | None]:
    if BUNDLE_NAME not in names:
        raise Tampered("there is no bundle.json, so nothing to compare with", code="not-sealed")
    parsed = parse_bundle(_read_small(files, BUNDLE_NAME))
    if parsed is None:
        raise Tampered("is not what was sealed, byte for byte", code="bundle-altered")
    return parsed


def _check_files(files: Files, names: list[str], bundle: Bundle) -> Iterator[Finding]:
    sealed = {file.key for file in bundle.files}
    for name in sorted(set(names) - sealed - {BUNDLE_NAME}):
        yield Finding("file-added", name, "is there and was not sealed")
    for file in bundle.files:
        if file.key not in names:
            yield Finding("file-missing", file.key, "was sealed and is not there")
        else:
            yield from _check_file(files, file)


def _check_file(files: Files, file: StoredObject) -> Iterator[Finding]:
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in files.read(file.key):
            digest.update(chunk)
            size += len(chunk)
            if size > file.size_bytes:
                break
    except Damaged as error:
        yield Finding(error.instance_code, file.key, error.message)
        return
    if size != file.size_bytes:
        found = f"more than {file.size_bytes}" if size > file.size_bytes else str(size)
        yield Finding("file-altered", file.key, f"expected {file.size_bytes} bytes, found {found}")
    elif digest.hexdigest() != file.sha256:
        message = f"expected sha256 {file.sha256}, found {digest.hexdigest()}"
        yield Finding("file-altered", file.key, message)


@dataclass(frozen=True)
class _Keys:
    """Whose seal an incident may have that lies in a review: that of the review's own signature, or
    of another key that is trusted. Where nobody signed, it may have none."""

    signature: Signature | None
    trusted: frozenset[str]

    @property
    def accepted(self) -> frozenset[str]:
        return self.trusted | {self.signature.fingerprint} if self.signature else self.trusted


def _check_records(
    files: Files, names: list[str], bundle: Bundle, keys: _Keys
) -> Iterator[Finding]:
    chain, wrong = _read_chain(files, names, "")
    yield from wrong
    yield from verify_chain(bundle.incident, chain)
    yield from _check_end(chain, bundle)
    for head in chains_in(chain):
        other, wrong = _read_chain(files, names, head.folder)
        yield from wrong
        yield from _check_other(other, head)
        if head.folder == INCIDENT_FOLDER:
            named = text_of(last_body(chain, FINISHED), "incident_sha256")
            yield from _check_own_seal(files, names, other, head, named, keys)


def _read_chain(
    files: Files, names: list[str], folder: str
) -> tuple[list[EvidenceRecord], list[Finding]]:
    """The records below a folder of the bundle, and what is no record in its place."""
    prefix, chain, wrong = f"{folder}/records/".lstrip("/"), [], []
    for name in sorted(name for name in names if name.startswith(prefix)):
        try:
            chain.append(decode_record(_read_small(files, name), where=name))
        except (Damaged, Tampered) as error:
            wrong.append(Finding(error.instance_code, name, error.message))
            continue
        if name != record_key(folder, chain[-1].seq).lstrip("/"):
            wrong.append(Finding("record-misplaced", name, f"holds record {chain[-1].seq}"))
    return chain, wrong


def _check_other(chain: list[EvidenceRecord], head: Head) -> Iterator[Finding]:
    """A chain that a review names, whose records lie beside its own."""
    for finding in verify_chain(head.stream, chain):
        yield Finding(finding.code, f"{head.folder} {finding.where}", finding.message)
    end = chain[-1].digest if chain else ""
    if (len(chain), end) != (head.length, head.head):
        yield Finding(
            "chain-truncated",
            f"{head.folder}/records/",
            f"expected {head.length} records that end in {head.head or 'nothing'}, "
            f"found {len(chain)} that end in {end or 'nothing'}",
        )


def _check_own_seal(
    files: Files,
    names: list[str],
    chain: list[EvidenceRecord],
    head: Head,
    named: str,
    keys: _Keys,
) -> Iterator[Finding]:
    """The seal that the incident had before it was reviewed.

    Args:
        named: its SHA-256, as the review has it.
    """
    try:
        sealed = _read_own_seal(files, names)
    except (Damaged, Tampered) as error:
        yield Finding(error.instance_code, OWN_SEAL, error.message)
        return
    if hashlib.sha256(sealed).hexdigest() != named and (sealed or named):
        yield Finding("file-altered", OWN_SEAL, f"expected sha256 {named or 'of no file'}")
    yield from find_in_own_seal(head.stream, chain, sealed)
    if parsed := parse_bundle(sealed):
        _, wrong = _check_signature(*parsed, keys.accepted)
        for it in wrong:
            replaced = _REPLACED if it.code == "signed-by-another-key" else ""
            yield Finding(it.code, OWN_SEAL, it.message + replaced)


_REPLACED = "; was the signing key replaced in between? then name the fingerprints of both"


def _own_fingerprint(files: Files, names: list[str]) -> str:
    try:
        parsed = parse_bundle(_read_own_seal(files, names))
    except (Damaged, Tampered):
        return ""
    return parsed[1].fingerprint if parsed and parsed[1] else ""


def _read_own_seal(files: Files, names: list[str]) -> bytes:
    return _read_small(files, OWN_SEAL) if OWN_SEAL in names else b""


def _check_end(chain: list[EvidenceRecord], bundle: Bundle) -> Iterator[Finding]:
    if not bundle.chain_length:
        yield Finding("no-records", BUNDLE_NAME, "seals no record, so that it tells of nothing")
    head = chain[-1].digest if chain else ""
    if (len(chain), head) != (bundle.chain_length, bundle.chain_head):
        yield Finding(
            "chain-truncated",
            "records",
            f"expected {bundle.chain_length} records that end in {bundle.chain_head}, "
            f"found {len(chain)} that end in {head or 'nothing'}",
        )
    plan = text_of(last_body(chain, "run-started"), "plan_sha256")
    if plan != bundle.plan_sha256:
        yield Finding(
            "plan-differs", BUNDLE_NAME, f"names plan {bundle.plan_sha256}, the records {plan}"
        )


def _check_signature(
    bundle: Bundle, signature: Signature | None, trusted: Collection[str]
) -> tuple[SignatureState, list[Finding]]:
    if signature is None:
        wanted = Finding("not-signed", BUNDLE_NAME, "expected a signature, it has none")
        return "absent", [wanted] if trusted else []
    if not _is_signed(bundle, signature):
        message = f"the signature is not of key {signature.fingerprint} over this bundle"
        return "invalid", [Finding("signature-invalid", BUNDLE_NAME, message)]
    if not trusted:
        return "key-not-given", []
    if signature.fingerprint not in trusted:
        keys = " or ".join(sorted(trusted))
        message = f"expected the key {keys}, it is signed by {signature.fingerprint}"
        return "invalid", [Finding("signed-by-another-key", BUNDLE_NAME, message)]
    return "trusted", []


def _is_signed(bundle: Bundle, signature: Signature) -> bool:
    """Whether the key in the signature made it, and is the one that its fingerprint says."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if signature.algorithm != "ECDSA_SHA_256":
        return False
    try:
        pem = signature.public_key.encode()
        key = load_pem_public_key(pem)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(b64decode(signature.value), statement(bundle), ec.ECDSA(SHA256()))
        return fingerprint_of(pem) == signature.fingerprint
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        return False


def _read_small(files: Files, name: str) -> bytes:
    data = bytearray()
    for chunk in files.read(name):
        data += chunk
        if len(data) > _LARGEST_BYTES:
            raise Tampered(f"{name} is larger than anything that is sealed", code="file-altered")
    return bytes(data)


def _unsealed(finding: Finding) -> Verdict:
    return Verdict(
        incident="",
        made_at="",
        tool="",
        records=0,
        chain_head="",
        files=0,
        signature="unknown",
        key_id="",
        fingerprint="",
        own_fingerprint="",
        findings=(finding,),
    )
