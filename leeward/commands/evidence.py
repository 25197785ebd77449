"""`leeward evidence verify`: is a bundle what was sealed? Works offline, without a plan or AWS."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import click

from chalicelib.errors import BadInput
from chalicelib.evidence.chain import Finding
from chalicelib.evidence.text import printable
from chalicelib.evidence.verify import Verdict, fingerprint_of, verify_evidence
from leeward.evidence_files import open_evidence
from leeward.options import FORMAT

# As `leeward drill` and people name the folder of an incident, or of its review.
_INCIDENT = re.compile(r"(?:review-)?(inc-[0-9]{8}T[0-9]{6}Z-[a-z0-9-]+)$")
_SIGNED = {
    "trusted": "valid, by the key you named",
    "key-not-given": "valid, by the key in the bundle; you named none to compare it with",
    "absent": "none: no signing key was configured where it was sealed",
    "invalid": "NOT VALID",
    "unknown": "not checked",
}


@click.group()
def command() -> None:
    """Verify an evidence bundle."""


@command.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Public key (PEM) that you trust.",
)
@click.option(
    "--fingerprint",
    "fingerprints",
    multiple=True,
    help="SHA-256 of the key that you trust, in hex.",
)
@FORMAT
@click.pass_context
def verify(
    ctx: click.Context,
    path: Path,
    keys: tuple[Path, ...],
    fingerprints: tuple[str, ...],
    form: str,
) -> None:
    """Check every byte of the bundle at PATH, a folder or a zip.

    Works offline, without a plan and without AWS. Says what the result proves and what it does
    not: docs/evidence.md. Name several keys where the signing key was replaced between the end of
    a run and the review of its incident.

    Exit status: 0 whole, 1 not what was sealed, 2 PATH or the key cannot be used.

    \b
    Example:
    leeward evidence verify build/drills/inc-20261122T084500Z-nexus-db
    """
    verdict = verify_evidence(open_evidence(path), trusted=_trusted(keys, fingerprints))
    verdict = _as_named(verdict, path.resolve())
    click.echo(json.dumps(verdict.to_json()) if form == "json" else _in_words(path, verdict))
    ctx.exit(0 if verdict.ok else 1)


def _as_named(verdict: Verdict, path: Path) -> Verdict:
    """Evidence that is called like an incident is of that one: another's, put in its place, is
    whole in itself."""
    named = _INCIDENT.match(path.name.removesuffix(".zip"))
    # What people write behind a name, such as -copy, says of which incident it is all the same.
    if not verdict.incident or named is None or named[1].startswith(_incident_of(verdict)):
        return verdict
    message = f"is called {named[1]}, and is the evidence of {verdict.incident}"
    other = Finding("another-incident", path.name, message)
    return replace(verdict, findings=(*verdict.findings, other))


def _incident_of(verdict: Verdict) -> str:
    """Of a review: what it is a review of."""
    return verdict.incident.removeprefix("review-")


def _trusted(keys: tuple[Path, ...], fingerprints: tuple[str, ...]) -> frozenset[str]:
    """The fingerprints to insist on; none when the caller named neither."""
    named = frozenset(_normal(it) for it in fingerprints)
    given = frozenset(fingerprint_of(_read_key(it)) for it in keys)
    if named and given and named != given:
        raise BadInput(
            "the keys and the fingerprints are not of the same keys",
            hint="pass the one or the other, or find out which is right",
        )
    return named | given


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"the key {path} cannot be read: {type(error).__name__}",
            hint="name a file with a public key in PEM",
        ) from error


def _normal(fingerprint: str) -> str:
    digits = fingerprint.lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise BadInput(
            "expected a fingerprint of 64 hex digits, found something else",
            hint="it is printed by every verification of a signed bundle",
        )
    return digits


def _in_words(path: Path, verdict: Verdict) -> str:
    lines = [f"{path}: {'whole' if verdict.ok else 'NOT WHAT WAS SEALED'}"]
    if verdict.incident:
        lines += [
            f"  incident        {printable(verdict.incident)}",
            f"  sealed          {verdict.made_at} by {printable(verdict.tool)}",
            f"  records         {verdict.records}, head {printable(verdict.chain_head)}",
            f"  files           {verdict.files}",
            f"  signature       {_SIGNED[verdict.signature]}",
        ]
    if verdict.fingerprint:
        lines += [
            f"  key             {printable(verdict.key_id)}",
            f"  fingerprint     {verdict.fingerprint}",
        ]
    if verdict.own_fingerprint not in ("", verdict.fingerprint):
        lines += [f"  of the run      sealed by another key, {verdict.own_fingerprint}"]
    lines += [f"  {f.code:<15} {printable(f'{f.where}: {f.message}')}" for f in verdict.findings]
    lines += [f"  proves          {verdict.proves}"]
    if verdict.does_not_prove:
        lines += [f"  does not prove  {verdict.does_not_prove}"]
    return "\n".join(lines)
