"""The incident's own seal, which lies in a review: is it over the chain that lies beside it?

The end of a run seals the incident before anybody writes a review of it. A chain that was
rewritten since is whole in itself, and a review would name it as it is; what it was stands in that
seal alone. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chalicelib.errors import NotReady, Tampered
from chalicelib.evidence.bundle import BUNDLE_NAME, Bundle, parse_bundle
from chalicelib.evidence.chain import Finding
from chalicelib.evidence.review import INCIDENT_FOLDER
from chalicelib.plan.records import EvidenceRecord

OWN_SEAL = f"{INCIDENT_FOLDER}/{BUNDLE_NAME}"
# How every run ends, before it is sealed.
ENDED = "run-finished"

Chain = Sequence[EvidenceRecord]


def find_in_own_seal(stream: str, chain: Chain, sealed: bytes) -> Iterator[Finding]:
    """What is wrong with the seal beside the chain; who signed it is another question.

    Args:
        stream: the incident. sealed: its bundle.json; b"" when it has none, which is right where
            no run of it ended.
    """
    if not sealed:
        if any(it.kind == ENDED for it in chain):
            yield Finding(
                "not-sealed", OWN_SEAL, "is not there, though a run of the incident ended"
            )
        return
    parsed = parse_bundle(sealed)
    if parsed is None or parsed[0].incident != stream:
        yield Finding("bundle-altered", OWN_SEAL, f"is not the seal of {stream}, byte for byte")
    elif not _covers(parsed[0], chain):
        told = f"{parsed[0].chain_length} records that end in {parsed[0].chain_head}"
        yield Finding("chain-altered", OWN_SEAL, f"seals {told}; the chain beside it has no such")


def require_own_seal(stream: str, chain: Chain, sealed: bytes) -> None:
    """Of an incident that is to be reviewed.

    Raises:
        NotReady: code "not-sealed": a run of it ended, and did not seal it yet.
        Tampered: with the first finding of `find_in_own_seal`.
    """
    for finding in find_in_own_seal(stream, chain, sealed):
        if finding.code == "not-sealed":
            raise NotReady(
                f"expected the seal of {stream}, it {finding.message}",
                hint="the end of a run seals it: look again in a minute, or redrive its execution",
                code=finding.code,
            )
        raise Tampered(
            f"the seal of {stream} {finding.message}",
            code=finding.code,
            hint="find out who could write to the evidence bucket; its older versions are kept",
        )


def _covers(bundle: Bundle, chain: Chain) -> bool:
    length = bundle.chain_length
    return 0 < length <= len(chain) and chain[length - 1].digest == bundle.chain_head
