"""A bundle is whole or it is not: any changed byte, file or record is named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import BadInput, NotReady, Tampered
from chalicelib.evidence import entries
from chalicelib.evidence.bundle import copy_evidence, encode_bundle, parse_bundle, seal, statement
from chalicelib.evidence.chain import encode_record, record_digest
from chalicelib.evidence.verify import Verdict, fingerprint_of, verify_evidence
from chalicelib.plan.records import StoredObject
from leeward.commands.evidence import command
from leeward.evidence_files import open_evidence
from tests.evidence_sample import INCIDENT, Recorder, at, open_incident, recovered_run
from tests.fakes_records import InMemoryRecords, KeySigner

SIGNER = KeySigner()
FilesByName = dict[str, bytes]


class InMemoryFiles:
    def __init__(self, files: FilesByName) -> None:
        self.files = files

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> Iterator[bytes]:
        yield self.files[name]


def seal_records(records: InMemoryRecords, signer: KeySigner | None = SIGNER) -> FilesByName:
    records.store.put(f"{INCIDENT}/report.html", b"<!doctype html><p>recovered</p>")
    records.store.put(f"{INCIDENT}/set-aside.jsonl", b'{"xid": 772}\n{"xid": 773}\n')
    seal(
        INCIDENT,
        store=records.store,
        records=records,
        signer=signer,
        tool="leeward 0.1.0",
        now=at(60),
    )
    prefix = f"{INCIDENT}/"
    return {key.removeprefix(prefix): data for key, data in records.objects.items()}


def small(signer: KeySigner | None = SIGNER) -> FilesByName:
    record = Recorder()
    open_incident(record)
    return seal_records(record.records, signer)


SMALL = small()


def check(files: FilesByName, fingerprint: str = "") -> Verdict:
    return verify_evidence(InMemoryFiles(files), trusted=[fingerprint] if fingerprint else [])


def findings(files: FilesByName) -> set[tuple[str, str]]:
    return {(finding.code, finding.where) for finding in check(files).findings}


def test_sealed_bundle_is_whole():
    verdict = check(seal_records(recovered_run()), SIGNER.fingerprint)
    assert verdict.ok
    assert verdict.signature == "trusted"
    assert (verdict.incident, verdict.records) == (INCIDENT, 29)


def test_every_single_byte_counts():
    unseen = []
    for name, data in SMALL.items():
        for position in range(len(data)):
            changed = bytearray(data)
            changed[position] ^= 0x20 if position % 2 else 0x01
            if check(SMALL | {name: bytes(changed)}).ok:
                unseen.append((name, position))
    assert unseen == []


@settings(deadline=None)
@given(st.data())
def test_no_cut_insertion_or_change_goes_unseen(data):
    name = data.draw(st.sampled_from(sorted(SMALL)))
    old = SMALL[name]
    start = data.draw(st.integers(0, len(old)))
    end = data.draw(st.integers(start, len(old)))
    new = old[:start] + data.draw(st.binary(max_size=3)) + old[end:]
    verdict = check(SMALL | {name: new})
    assert verdict.ok is (new == old)
    if new != old:
        assert any(finding.where == name for finding in verdict.findings)


def test_missing_and_added_files_are_named():
    files = dict(SMALL)
    del files["set-aside.jsonl"]
    files["records/000009.txt"] = b""
    assert {("file-missing", "set-aside.jsonl"), ("file-added", "records/000009.txt")} <= findings(
        files
    )


def test_missing_bundle_is_not_whole():
    files = dict(SMALL)
    del files["bundle.json"]
    assert findings(files) == {("not-sealed", "bundle.json")}


def test_exchanged_records_are_named():
    one, two = "records/000001.json", "records/000002.json"
    found = findings(SMALL | {one: SMALL[two], two: SMALL[one]})
    assert {("file-altered", one), ("record-misplaced", one), ("chain-broken", "record 2")} <= found


def reseal(files: FilesByName, **changes: object) -> FilesByName:
    """What somebody does who rewrites the seal but does not have the key."""
    bundle, signature = parse_bundle(files["bundle.json"])
    sealed = tuple(
        StoredObject(name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in sorted(files.items())
        if name != "bundle.json"
    )
    bundle = dataclasses.replace(bundle, files=sealed, **changes)
    return files | {"bundle.json": encode_bundle(bundle, signature)}


def test_new_seal_without_the_key_is_not_valid():
    changed = reseal(SMALL | {"report.html": b"all was well"})
    assert findings(changed) == {("signature-invalid", "bundle.json")}


def test_chain_cut_off_at_its_end_is_found_even_under_a_new_seal():
    files = dict(SMALL)
    del files["records/000003.json"]
    found = findings(reseal(files))
    assert ("chain-truncated", "records") in found


def test_a_seal_over_no_record_at_all_is_not_whole():
    """Everything agrees with everything where there is nothing."""
    nothing = {"bundle.json": SMALL["bundle.json"], "report.html": b"all was well"}
    changes = {"chain_length": 0, "chain_head": "", "plan_sha256": ""}
    bundle, _ = parse_bundle(reseal(nothing, **changes)["bundle.json"])
    unsigned = nothing | {"bundle.json": encode_bundle(bundle, None)}
    assert findings(unsigned) == {("no-records", "bundle.json")}


def test_record_rewritten_with_its_digest_under_a_new_seal_breaks_the_chain():
    records = InMemoryRecords()
    chain = [
        records.append(INCIDENT, *entries.decision(what=what, why="w"), actor="leeward")
        for what in "abc"
    ]
    forged = dataclasses.replace(chain[1], body={"what": "z"})
    forged = dataclasses.replace(forged, digest=record_digest(forged))
    files = seal_records(records) | {"records/000002.json": encode_record(forged)}
    assert ("chain-broken", "record 3") in findings(reseal(files))


def test_evidence_of_another_incident_under_a_new_seal_is_found():
    assert ("chain-broken", "record 1") in findings(reseal(SMALL, incident="inc-other"))


def test_plan_that_was_not_followed_is_found():
    assert ("plan-differs", "bundle.json") in findings(reseal(SMALL, plan_sha256="0" * 64))


def test_signature_by_another_key_is_not_trusted():
    other = KeySigner()
    verdict = check(small(other), SIGNER.fingerprint)
    assert {finding.code for finding in verdict.findings} == {"signed-by-another-key"}
    assert check(small(other), other.fingerprint).ok


def test_key_exchanged_under_a_kept_fingerprint_is_not_valid():
    bundle, signature = parse_bundle(SMALL["bundle.json"])
    forger = KeySigner()
    forged = dataclasses.replace(forger.sign(statement(bundle)), fingerprint=signature.fingerprint)
    files = SMALL | {"bundle.json": encode_bundle(bundle, forged)}
    verdict = check(files, SIGNER.fingerprint)
    assert {finding.code for finding in verdict.findings} == {"signature-invalid"}


@pytest.mark.parametrize(
    "pem", ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_key_that_is_none_is_not_valid(pem):
    bundle, signature = parse_bundle(SMALL["bundle.json"])
    files = SMALL | {
        "bundle.json": encode_bundle(bundle, dataclasses.replace(signature, public_key=pem))
    }
    assert findings(files) == {("signature-invalid", "bundle.json")}


def test_unsigned_bundle_says_what_it_does_not_prove():
    verdict = check(small(signer=None))
    assert verdict.ok
    assert verdict.signature == "absent"
    assert "not signed" in verdict.does_not_prove
    refused = check(small(signer=None), SIGNER.fingerprint)
    assert {finding.code for finding in refused.findings} == {"not-signed"}


def test_without_a_known_key_the_maker_is_not_proven():
    verdict = check(SMALL)
    assert verdict.ok
    assert verdict.signature == "key-not-given"
    assert "who made it" in verdict.does_not_prove


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 50_000,
        b'{"signature": 1}',
        b"\xff",
        b'{"digest": "\\ud800"}',
    ],
)
def test_bundle_that_is_none_is_named(data):
    assert findings(SMALL | {"bundle.json": data}) == {("bundle-altered", "bundle.json")}


def test_sealing_again_covers_what_came_later():
    record = Recorder()
    open_incident(record)
    seal_records(record.records)
    record(9, entries.incident_closed(why="recovered"), run_id="")
    stale = {k.removeprefix(f"{INCIDENT}/"): v for k, v in record.records.objects.items()}
    assert ("file-added", "records/000004.json") in findings(stale)
    assert check(seal_records(record.records)).ok


def test_nothing_is_sealed_without_records_or_on_a_broken_chain():
    say = {"signer": None, "tool": "leeward 0.1.0", "now": at(0) + timedelta(1)}
    empty = InMemoryRecords()
    with pytest.raises(NotReady):
        seal(INCIDENT, store=empty.store, records=empty, **say)
    run = recovered_run()
    del run.objects[f"{INCIDENT}/records/000005.json"]
    with pytest.raises(Tampered):
        seal(INCIDENT, store=run.store, records=run, **say)
    assert f"{INCIDENT}/bundle.json" not in run.objects


def test_object_whose_name_leads_out_of_the_folder_is_not_copied(tmp_path):
    run = recovered_run()
    run.store.put(f"{INCIDENT}/../../outside", b"x")
    with pytest.raises(Tampered, match="outside"):
        copy_evidence(INCIDENT, run.store, tmp_path / "a" / "b")
    assert not (tmp_path / "outside").exists()


def test_fingerprint_is_of_the_key_and_not_of_its_spelling():
    assert fingerprint_of(SIGNER.pem.replace(b"\n", b"\r\n")) == SIGNER.fingerprint
    with pytest.raises(BadInput):
        fingerprint_of(b"no key")


# The command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    records = recovered_run()
    seal_records(records)
    return copy_evidence(INCIDENT, records.store, tmp_path / "evidence")


def zip_of(folder: Path, target: Path, *, top: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, top + path.relative_to(folder).as_posix())
    return target


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, ["verify", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_command_accepts_a_folder_and_a_zip(folder, tmp_path):
    assert run(folder)[0] == 0
    assert run(zip_of(folder, tmp_path / "a.zip"))[0] == 0
    assert run(zip_of(folder, tmp_path / "b.zip", top="inc-1/"))[0] == 0


def test_command_names_the_changed_file(folder):
    report = folder / "report.html"
    report.write_bytes(report.read_bytes().replace(b"recovered", b"Recovered"))
    status, output = run(folder)
    assert status == 1
    assert "NOT WHAT WAS SEALED" in output
    assert "file-altered" in output
    assert "report.html" in output


def test_command_in_json(folder, tmp_path):
    key = tmp_path / "key.pem"
    key.write_bytes(SIGNER.pem)
    status, output = run(folder, "--key", key, "--format", "json")
    verdict = json.loads(output)
    assert (status, verdict["ok"], verdict["signature"]) == (0, True, "trusted")
    (folder / "extra.txt").write_text("x")
    status, output = run(folder, "--format", "json")
    assert (status, json.loads(output)["ok"]) == (1, False)
    assert json.loads(output)["findings"][0]["where"] == "extra.txt"


def test_command_takes_the_fingerprint_as_openssl_prints_it(folder):
    pairs = [SIGNER.fingerprint[i : i + 2].upper() for i in range(0, 64, 2)]
    assert run(folder, "--fingerprint", ":".join(pairs))[0] == 0
    assert run(folder, "--fingerprint", KeySigner().fingerprint)[0] == 1


def test_command_refuses_a_key_that_it_cannot_use(folder, tmp_path):
    for words in (
        ("--fingerprint", "abc"),
        ("--key", tmp_path / "none.pem"),
        ("--key", folder / "report.html"),
    ):
        with pytest.raises(BadInput):
            run(folder, *words)


def test_command_refuses_a_path_that_is_not_there(tmp_path):
    with pytest.raises(BadInput):
        run(tmp_path / "none")


def test_link_in_the_folder_is_refused(folder):
    report = folder / "report.html"
    report.rename(folder.parent / "elsewhere.html")
    report.symlink_to(folder.parent / "elsewhere.html")
    status, output = run(folder)
    assert status == 1
    assert "not-a-plain-file" in output


def test_hostile_file_name_does_not_reach_the_terminal(folder):
    (folder / "\x1b[2Jreport").write_text("x")
    status, output = run(folder)
    assert status == 1
    assert "\x1b" not in output


def test_zip_with_two_files_of_one_name_is_refused(folder, tmp_path):
    path = zip_of(folder, tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("report.html", "another")
    assert "file-doubled" in run(path)[1]


def test_file_that_a_zip_would_unpack_as_a_link_is_refused(folder, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in open_evidence(folder).names():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if name == "report.html" else 0o100644) << 16
            archive.writestr(entry, (folder / name).read_bytes())
    status, output = run(path)
    assert status == 1
    assert "not-a-plain-file" in output


OTHER = "inc-20261121T120000Z-nexus-db"


def test_evidence_of_another_incident_in_its_place_is_found(folder: Path, tmp_path: Path) -> None:
    """Both are whole and signed by the right key; who swaps them needs no key."""
    for name in (INCIDENT, f"review-{INCIDENT}", f"{INCIDENT}-copy", "for-the-auditor"):
        assert run(folder.rename(folder.with_name(name)))[0] == 0
        folder = folder.with_name(name)
    swapped = folder.rename(folder.with_name(OTHER))
    for path in (swapped, zip_of(swapped, tmp_path / f"{OTHER}.zip")):
        status, said = run(path, "--fingerprint", SIGNER.fingerprint)
        assert status == 1
        assert "another-incident" in said
        assert f"is called {OTHER}, and is the evidence of {INCIDENT}" in said


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_broken_zip_is_an_answer_and_never_a_crash(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in SMALL.items():
            archive.writestr(name, data)
    whole = path.read_bytes()
    for position in range(0, len(whole), 29):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(bytes(changed))
        verdict = verify_evidence(open_evidence(path))
        assert verdict.ok or verdict.findings
