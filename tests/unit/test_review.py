"""The final report: what people said, as they said it, sealed with every record it stands on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import NotReady, Tampered
from chalicelib.evidence.bundle import BUNDLE_NAME, copy_evidence, seal
from chalicelib.evidence.own_seal import require_own_seal
from chalicelib.evidence.render import render_html, render_markdown
from chalicelib.evidence.report import make_report
from chalicelib.evidence.review import (
    FINISHED,
    INCIDENT_FOLDER,
    PEOPLE_FOLDER,
    WRITTEN,
    finished_body,
    head_of,
    missing_in,
    read_review,
)
from chalicelib.evidence.review_part import blocks_of, make_part
from chalicelib.evidence.review_seal import (
    digest_of_seal,
    seal_version,
    version_files,
    version_prefix,
)
from chalicelib.evidence.verify import verify_evidence
from chalicelib.incidents.streams import people_stream, review_stream
from chalicelib.plan.people import PostIncident
from chalicelib.plan.questions import asked_after
from chalicelib.plan.records import EvidenceRecord
from leeward.commands.evidence import command
from leeward.evidence_files import open_evidence
from leeward.review_page import changed_in, write_page
from tests.evidence_sample import INCIDENT, recovered_run
from tests.fakes_records import AtomicObjectStore, InMemoryRecords, KeySigner

STREAM = review_stream(INCIDENT)
ASKED = asked_after(
    PostIncident(
        report=("Timeline of events", "Root cause analysis", "Lessons learned"),
        customer_communication=("Incident summary", "Compensation (if applicable)"),
    )
)
AT = datetime(2026, 11, 23, 9, tzinfo=UTC)


def sealed_by(signer: KeySigner, records: InMemoryRecords) -> bytes:
    """The incident's bundle.json, as the end of its run writes it."""
    seal(
        INCIDENT, store=records.store, records=records, signer=signer, tool="leeward test", now=AT,
    )  # fmt: skip
    return records.store.get(f"{INCIDENT}/{BUNDLE_NAME}")


def rewritten(kind: str) -> InMemoryRecords:
    """The incident's records, made anew by somebody with one kind of them left out: the chain is
    whole in itself."""
    made = InMemoryRecords()
    for it in recovered_run().read(INCIDENT):
        if it.kind != kind:
            made.append(INCIDENT, it.kind, it.body, actor=it.actor, run_id=it.run_id, step=it.step)
    return made


class Review:
    """A review being written, and what lies in the evidence bucket."""

    def __init__(self) -> None:
        self.records = InMemoryRecords()
        self.store = AtomicObjectStore()
        self.signer = KeySigner()
        whole = recovered_run()
        self.incident = whole.read(INCIDENT)
        self.own = sealed_by(self.signer, whole)
        self.records.append(people_stream(INCIDENT), "told", {"to": "cto"}, actor="leeward")

    def write(self, field: str, text: str, by: str = "cto") -> None:
        self.records.append(STREAM, WRITTEN, {"field": field, "text": text}, actor=by)

    def act(self, what: str) -> None:
        body = {"action": "act-1", "what": what, "owner": "dba-lead", "due_on": "2026-12-24"}
        self.records.append(STREAM, "action-added", body, actor="cto")

    def chain(self) -> list[EvidenceRecord]:
        return self.records.read(STREAM)

    def finish(self) -> int:
        number = len(read_review(self.chain()).versions) + 1
        people = self.records.read(people_stream(INCIDENT))
        chains = [
            head_of(INCIDENT, INCIDENT_FOLDER, self.incident),
            head_of(people_stream(INCIDENT), PEOPLE_FOLDER, people),
        ]
        body = finished_body(
            version=number,
            chains=chains,
            incident_sha256=digest_of_seal(self.own),
            previous_sha256="0" * 64,
        )
        self.records.append(STREAM, FINISHED, body, actor="cto")
        self.seal(number)
        return number

    def seal(self, number: int) -> str:
        version = read_review(self.chain()).versions[number - 1]
        chain = self.chain()[: version.seq]
        html, markdown = self.report(chain)
        files = version_files(
            html=html, markdown=markdown, review=chain, incident=self.incident,
            people=self.records.read(people_stream(INCIDENT)), bundle=self.own,
        )  # fmt: skip
        return seal_version(
            STREAM, number, files, chain,
            store=self.store, signer=self.signer, tool="leeward test", made_at=AT,
        )  # fmt: skip

    def report(self, chain: Sequence[EvidenceRecord]) -> tuple[str, str]:
        report, part = make_report(INCIDENT, self.incident), make_part(read_review(chain), ASKED)
        return (
            render_html(report, asked=ASKED, people=part),
            render_markdown(report, asked=ASKED, people=part),
        )

    def folder(self, number: int, path: Path) -> Path:
        return copy_evidence(version_prefix(STREAM, number).rstrip("/"), self.store, path)


@pytest.fixture
def review() -> Review:
    made = Review()
    made.write("root-cause-analysis", "An update without WHERE.\n\n- no review\n- no limit")
    made.write("lessons-learned", "- Limit what a statement may touch")
    made.write("incident-summary", "It was us.")
    made.act("Set statement limits")
    return made


def found(folder: Path, **trusted: Any) -> list[str]:
    return [it.code for it in verify_evidence(open_evidence(folder), **trusted).findings]


def test_a_review_is_missing_what_is_required_and_has_no_words(review: Review) -> None:
    assert missing_in(read_review(review.chain()), ASKED) == []
    names = [it.name for it in missing_in(read_review(review.chain()[1:]), ASKED)]
    assert names == ["root-cause-analysis"]


def test_the_last_words_count_and_the_ones_before_stay_in_the_chain(review: Review) -> None:
    review.write("lessons-learned", "- Better", by="dba-lead")
    read = read_review(review.chain())
    assert read.text("lessons-learned") == "- Better"
    assert [it.by for it in read.words["lessons-learned"]] == ["cto", "dba-lead"]


def test_the_final_report_shows_words_who_wrote_them_and_actions(review: Review) -> None:
    review.finish()
    for text in review.report(review.chain()):
        for words in ("Final report, version 1", "An update without WHERE.", "no limit",
                      "Nothing was written", "Set statement limits", "2026-12-24"):  # fmt: skip
            assert words in text
        assert "Questions for people" not in text
        assert "Answer the questions" not in text


def test_a_sealed_version_verifies_with_all_three_chains(review: Review, tmp_path: Path) -> None:
    review.finish()
    folder = review.folder(1, tmp_path / "review")
    assert found(folder, trusted=[review.signer.fingerprint]) == []
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}
    assert {"records/000001.json", "incident/records/000001.json",
            "people/records/000001.json"} <= names  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_changed_byte_anywhere_is_found(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = _sealed(tmp_path_factory)
    files = sorted(path for path in made.rglob("*") if path.is_file())
    file = data.draw(st.sampled_from(files))
    before = file.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    changed = bytearray(before)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(changed)
    try:
        assert found(made)
    finally:
        file.write_bytes(before)


_KEPT: list[Path] = []


def _sealed(factory: pytest.TempPathFactory) -> Path:
    if not _KEPT:
        made = Review()
        made.write("root-cause-analysis", "x")
        made.finish()
        _KEPT.append(made.folder(1, factory.mktemp("review") / "1"))
    return _KEPT[0]


def test_a_record_that_is_cut_off_another_chain_is_found_by_whoever_signs_anew(
    review: Review, tmp_path: Path
) -> None:
    """The seal is made by the forger, the review's own chain is not."""
    review.incident = review.incident[:-1]
    whole = recovered_run().read(INCIDENT)
    chains = [head_of(INCIDENT, INCIDENT_FOLDER, whole)]
    named = digest_of_seal(review.own)
    body = finished_body(version=1, chains=chains, incident_sha256=named, previous_sha256="")
    review.records.append(STREAM, FINISHED, body, actor="cto")
    review.seal(1)
    # It is neither what the review names nor what the run sealed.
    assert found(review.folder(1, tmp_path / "r")) == ["chain-truncated", "chain-altered"]


@pytest.mark.parametrize("kind", ["data-loss", "run-finished"])
def test_a_chain_rewritten_between_the_run_and_the_review_is_found(
    review: Review, tmp_path: Path, kind: str
) -> None:
    """The review names it as it found it, and is sealed with the right key."""
    review.incident = rewritten(kind).read(INCIDENT)
    review.finish()
    folder = review.folder(1, tmp_path / "r")
    assert found(folder, trusted=[review.signer.fingerprint]) == ["chain-altered"]
    with pytest.raises(Tampered) as caught:
        require_own_seal(INCIDENT, review.incident, review.own)
    assert caught.value.instance_code == "chain-altered"


def test_a_rewritten_chain_with_a_seal_of_its_own_key_is_found(
    review: Review, tmp_path: Path
) -> None:
    forged = rewritten("data-loss")
    review.incident, review.own = forged.read(INCIDENT), sealed_by(KeySigner(), forged)
    review.finish()
    folder = review.folder(1, tmp_path / "r")
    assert found(folder, trusted=[review.signer.fingerprint]) == ["signed-by-another-key"]
    assert found(folder) == ["signed-by-another-key"]


def test_a_review_is_whole_after_the_signing_key_was_replaced_by_whoever_names_both(
    review: Review, tmp_path: Path
) -> None:
    before = KeySigner()
    review.own = sealed_by(before, recovered_run())
    review.finish()
    folder = review.folder(1, tmp_path / "r")
    both = [before.fingerprint, review.signer.fingerprint]
    assert found(folder, trusted=both) == []
    assert found(folder, trusted=[review.signer.fingerprint]) == ["signed-by-another-key"]
    words = [word for it in both for word in ("--fingerprint", it)]
    done = CliRunner().invoke(command, ["verify", str(folder), *words])
    assert done.exit_code == 0, done.output
    assert f"sealed by another key, {before.fingerprint}" in done.output
    alone = CliRunner().invoke(command, ["verify", str(folder)])
    assert alone.exit_code == 1
    assert "was the signing key replaced" in alone.output
    assert found(folder, trusted=[before.fingerprint]) == ["signed-by-another-key"]
    assert found(folder, trusted=[before.fingerprint, KeySigner().fingerprint]) == [
        "signed-by-another-key"
    ]


def test_a_seal_taken_away_between_the_run_and_the_review_is_missed(
    review: Review, tmp_path: Path
) -> None:
    review.own = b""
    review.finish()
    assert found(review.folder(1, tmp_path / "r")) == ["not-sealed"]
    with pytest.raises(NotReady):
        require_own_seal(INCIDENT, review.incident, b"")


def test_the_seal_of_another_incident_is_found(review: Review, tmp_path: Path) -> None:
    other = InMemoryRecords()
    for it in review.incident:
        other.append("inc-other", it.kind, it.body, actor=it.actor)
    seal("inc-other", store=other.store, records=other, signer=review.signer, tool="x", now=AT)
    review.own = other.store.get(f"inc-other/{BUNDLE_NAME}")
    review.finish()
    assert found(review.folder(1, tmp_path / "r")) == ["bundle-altered"]


def test_an_incident_that_no_run_ended_was_never_sealed(review: Review, tmp_path: Path) -> None:
    """Such as one that a person closed before any run of it came to its end."""
    review.incident, review.own = review.incident[:1], b""
    review.finish()
    assert found(review.folder(1, tmp_path / "r")) == []


def test_sealing_again_changes_nothing_and_a_correction_is_the_next_version(
    review: Review, tmp_path: Path
) -> None:
    review.finish()
    before = dict(review.store.objects)
    review.seal(1)
    assert review.store.objects == before
    review.write("lessons-learned", "- Better")
    assert read_review(review.chain()).changed
    assert review.finish() == 2
    assert {key: review.store.objects[key] for key in before} == before
    assert found(review.folder(1, tmp_path / "1")) == []
    assert found(review.folder(2, tmp_path / "2")) == []
    assert "- Better" not in (tmp_path / "1" / "report.md").read_text()


def test_a_death_before_the_seal_is_made_up_for(review: Review, tmp_path: Path) -> None:
    review.finish()
    whole = dict(review.store.objects)
    del review.store.objects[version_prefix(STREAM, 1) + "bundle.json"]
    del review.store.objects[version_prefix(STREAM, 1) + "report.md"]
    review.seal(1)
    assert set(review.store.objects) == set(whole)
    assert found(review.folder(1, tmp_path / "1")) == []


HOSTILE = "<script>alert(1)</script> [x](javascript:x) <!-- | `'\" \x1b[31m \u202e"


def test_markup_in_what_people_write_stays_text(review: Review) -> None:
    plain_html, plain_markdown = (review.finish(), review.report(review.chain()))[1]
    hostile = Review()
    for it in ASKED:
        hostile.write(it.name, f"{HOSTILE}\n\n- {HOSTILE}", by=HOSTILE)
    hostile.act(HOSTILE)
    hostile.finish()
    html, markdown = hostile.report(hostile.chain())
    assert "<script" not in html + markdown
    assert "\x1b" not in html + markdown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert plain_html
    assert plain_markdown


def test_words_written_under_a_heading_that_the_plan_has_no_more_are_still_shown(
    review: Review,
) -> None:
    review.write("weather", "It rained.")
    review.finish()
    assert all("It rained." in text for text in review.report(review.chain()))


def test_lists_and_paragraphs_are_told_apart() -> None:
    blocks = list(blocks_of("a\nb\n- c\n- d\n\ne\n\n\n"))
    assert [(it.listed, it.lines) for it in blocks] == [
        (False, ("a b",)), (True, ("c", "d")), (False, ("e",))
    ]  # fmt: skip


def test_the_editors_page_gives_back_what_was_changed_and_nothing_else() -> None:
    fields = [
        {"name": it.name, "heading": it.heading, "prompts": list(it.prompts), "text": text}
        for it, text in zip(ASKED, (None, "Cause.", "- a\n- b", None, None), strict=True)
    ]
    page = write_page("inc-1", fields)
    assert changed_in(page, fields) == {}
    heading = "## Root cause analysis [root-cause-analysis]"
    edited = page.replace("Cause.", "Cause,\n\nand more. ## not a heading")
    edited = edited.replace(f"{heading}\n", f"{heading}\n# a comment\n")
    assert changed_in(edited, fields) == {
        "root-cause-analysis": "Cause,\n\nand more. ## not a heading"
    }
    assert changed_in(page.replace("- a\n- b", ""), fields) == {}
    assert changed_in("", fields) == {}


def test_words_are_kept_as_they_were_said() -> None:
    made = Review()
    text = "Über\n\ttabs, “quotes” and 100 % — ok"
    made.write("root-cause-analysis", text)
    assert read_review(made.chain()).text("root-cause-analysis") == text
    assert dataclasses.asdict(read_review(made.chain()).words["root-cause-analysis"][0])
