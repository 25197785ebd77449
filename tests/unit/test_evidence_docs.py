"""docs/evidence.md says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chalicelib.errors import Unavailable
from chalicelib.evidence import entries
from chalicelib.evidence.bundle import copy_evidence, parse_bundle, seal, statement
from tests.evidence_sample import INCIDENT, recovered_run, the_damage, the_proof
from tests.fakes_records import KeySigner

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "evidence.md").read_text()
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)

EVERY_ENTRY = [
    entries.incident_opened(
        alarm="a", alarm_at=NOW, component="c", scenario="s", severity="SEV1", reason="r"
    ),
    entries.alarm_joined(alarm="a", alarm_at=NOW),
    entries.run_started(
        scenario="s",
        component="c",
        plan_sha256="p",
        execution="e",
        rto_objective_seconds=1,
        rpo_objective_seconds=1,
    ),
    entries.step_started(attempt=1, does="d"),
    entries.step_finished(found="f", outputs={}, seconds=1),
    entries.step_failed(Unavailable("m"), attempt=1),
    entries.decision(what="w", why="y"),
    entries.damage_found(the_damage()),
    entries.rejected_point(point="p", reason="r"),
    entries.chosen_point(point="p", reason="r", taken_at=NOW, chain=["p"]),
    entries.proven(the_proof()),
    entries.data_loss(
        last_commit_before_at=NOW, last_commit_recovered_at=NOW, rows_lost=0, how="h"
    ),
    entries.fenced(token=1, ended=1, seconds=1),
    entries.unfenced(token=1, seconds=1),
    entries.set_aside(transactions=1, rows=1, object_key="o"),
    entries.first_write(at=NOW),
    entries.left_behind(step="s", what="w", how="h"),
    entries.run_finished(outcome="recovered"),
    entries.incident_closed(why="w"),
    entries.foreign_object([(4, "ab", "w")]),
]


def test_every_kind_of_record_is_described_with_its_fields():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", DOCS, re.MULTILINE))
    assert {entry.kind for entry in EVERY_ENTRY} <= rows.keys()
    for kind, body in EVERY_ENTRY:
        if "the record" not in rows[kind]:
            assert set(re.findall(r"`(\w+)`", rows[kind])) == body.keys(), kind


def test_every_finding_of_a_verification_is_described():
    sources = [f"chalicelib/evidence/{name}.py" for name in ("chain", "own_seal", "verify")]
    sources += ["leeward/evidence_files.py", "leeward/commands/evidence.py"]
    text = "".join((ROOT / path).read_text() for path in sources)
    codes = set(re.findall(r'(?:Finding\(|_tampered\(|code=)\s*"([a-z-]+)"', text))
    assert len(codes) > 15
    assert {code for code in codes if f"`{code}`" not in DOCS} == set()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    records = recovered_run()
    records.store.put(f"{INCIDENT}/report.md", b"# recovered\n")
    say = {"signer": KeySigner(), "tool": "leeward 0.1.0", "now": NOW}
    seal(INCIDENT, store=records.store, records=records, **say)
    return copy_evidence(INCIDENT, records.store, tmp_path)


def check_by_hand(folder: Path) -> subprocess.CompletedProcess[bytes]:
    (script,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    return subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True)


def test_check_without_leeward_agrees(folder):
    bundle, _ = parse_bundle((folder / "bundle.json").read_bytes())
    ran = check_by_hand(folder)
    assert (ran.returncode, ran.stdout) == (0, statement(bundle))


@pytest.mark.parametrize("name", ["records/000007.json", "report.md"])
def test_check_without_leeward_finds_a_changed_byte(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[5] ^= 1
    (folder / name).write_bytes(data)
    assert check_by_hand(folder).returncode != 0
