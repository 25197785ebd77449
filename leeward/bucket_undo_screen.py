"""What `leeward restore bucket` shows: the plan as a difference, progress, the proof."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from chalicelib.evidence.text import counted, day_and_clock, in_units, printable
from chalicelib.plan.records import format_time
from chalicelib.plan.units import format_size
from chalicelib.recover.bucket.cost import Cost
from chalicelib.recover.bucket.elsewhere import CopyPlan
from chalicelib.recover.bucket.grade import (
    Grade,
    rules_in_reach,
    tell_rule,
    tell_vanished,
)
from chalicelib.recover.bucket.outcome import UndoOutcome
from chalicelib.recover.bucket.proof import UndoProof
from chalicelib.recover.bucket.survey import Tell, UndoPlan
from leeward.bucket_undo import Undoing
from leeward.console import Console

LINES = {
    "remove-markers": ("+", "green", "come back", "their delete markers are removed"),
    "copy": ("~", "yellow", "go back", "the version of then is copied on top"),
    "compare": ("~", "yellow", "compare", "same size: copied unless it is the same"),
    "thaw": ("~", "yellow", "thaw", "in an archive: restored, then copied by a later run"),
    "put-marker": ("-", "red", "go", "a delete marker is put on top, no data goes"),
    "unknown": ("!", "bold red", "unknown", "what stood there is not known: left alone"),
    "leave": ("=", "", "stay", "as they were"),
}
NOTES = {
    "same-second": "changed within the second of that moment, which counts as before it",
    "sent-in-parts": "sent in parts, begun in the hour before; they may have ended after it",
    "null-version": "written while versioning was off: what that replaced is not known",
    "out-of-order": "with times that do not fit the order of their versions",
}
DONE = {
    "unmarked": "came back",
    "copied": "copied",
    "same": "the same already",
    "marked": "hidden by a delete marker",
    "left": "left",
    "thawing": "being restored from an archive",
    "archived": "left in an archive",
    "unknown": "left, unknown",
    "failed": "FAILED",
}
VERDICTS = {
    "proven": ("PROVEN", "bold green"),
    "versions-alone": ("AS THE VERSIONS SAY, NOT WITNESSED", "bold yellow"),
    "not-proven": ("NOT PROVEN", "bold red"),
}
NAMED = 20


def show_plan(console: Console, undoing: Undoing) -> None:
    plan = undoing.plan
    where = f"into {undoing.wish.target}" if undoing.wish.target else "in place"
    what = f"{undoing.wish.bucket}/{undoing.wish.prefix}" if undoing.wish.prefix else plan.bucket
    console.print(
        f"{printable(what)} as of {day_and_clock(undoing.wish.to_at)}, {where}", markup=False
    )
    console.print(f"  {_objects(plan)}", style="dim", markup=False)
    if isinstance(plan, UndoPlan):
        _show_changes(console, plan)
    else:
        _show_copies(console, plan)
    console.print(_cost_line(plan.cost), markup=False)
    for line in warnings_of(undoing):
        console.print(Text(f"  ! {line}", style="yellow"))


def warnings_of(undoing: Undoing) -> Iterator[str]:
    """What a person should know before it is done."""
    plan, facts = undoing.plan, undoing.facts
    if isinstance(plan, UndoPlan):
        for note, number in plan.notes.items():
            samples = ", ".join(printable(key) for key in plan.noted[note][:2])
            yield f"{counted(number, 'key')} {NOTES[note]}: {samples}"
        if plan.markers:
            gone = counted(plan.markers, "delete marker")
            yield f"{gone} will be gone from the history (not with --keep-markers)"
        if facts.lock_days:
            yield f"copies are locked for {facts.lock_days} days by the bucket's own rule"
    if facts.mfa_delete:
        yield "MFA delete is on: versions are copied on top of markers, none is removed"
    for what in facts.unread:
        yield f"the {what} of the bucket could not be read: nothing is known of them"
    yield from _vanished_lines(undoing)


def _vanished_lines(undoing: Undoing) -> Iterator[str]:
    """What the inventories, and the watch, know better than the list of versions."""
    known, testimony = undoing.known, undoing.testimony
    if known is None:
        yield "no --plan: no inventory witnesses that no version was removed"
        return
    for point_id in known.unread:
        yield f"the inventory {point_id} is not what its manifest says: it was not asked"
    if said := tell_vanished(testimony):
        yield printable(said)
        back, left = len(undoing.fillable), len(testimony.vanished) - len(undoing.fillable)
        if back:
            yield f"{back:,} of them come back from the replica {known.replica}"
        if left:
            done = "acted on without them" if undoing.wish.accept_gaps else "left alone"
            yield f"{left:,} of them are in no replica: {done}, and the result is not proven"
    for rule in rules_in_reach(known.rules, prefix=undoing.wish.prefix, to_at=undoing.wish.to_at):
        yield tell_rule(rule)


def show_end(
    console: Console,
    undoing: Undoing,
    outcome: UndoOutcome,
    proof: UndoProof,
    grade: Grade,
    seconds: float,
) -> None:
    parts = [f"{outcome.counts[name]:,} {said}" for name, said in DONE.items()
             if outcome.counts.get(name)]  # fmt: skip
    size = f" ({format_size(outcome.copied_bytes)} copied)" if outcome.copied_bytes else ""
    console.print(f"  done   {', '.join(parts)}{size} in {in_units(seconds)}", markup=False)
    found = f"{proof.objects:,} objects are as they were; {counted(proof.keys, 'key')} compared"
    if proof.read:
        found += f", {proof.read:,} by reading"
    console.print(f"  proof  {found}", markup=False)
    for line in _wrong(outcome, proof):
        console.print(Text(f"  ! {line}", style="red"))
    if undoing.refilled.brought:
        back = undoing.refilled.counts.get("back", 0)
        console.print(
            f"  refill {back:,} brought back from the replica, and compared", markup=False
        )
    for failure in undoing.refilled.failures[:NAMED]:
        line = f"{printable(failure.key)}: {failure.code}: {printable(failure.message)}"
        console.print(Text(f"  ! {line}", style="red"))
    verdict, style = VERDICTS[grade.level]
    console.print(Text(verdict, style))
    console.print(Text(f"  {printable(grade.why)}", "dim"))
    if undo := undo_command(undoing, outcome):
        console.print(f"to undo it: {undo}", markup=False, soft_wrap=True)
        if outcome.counts.get("unmarked"):
            console.print(f"  ({outcome.counts['unmarked']:,} keys that came back would stay)")


def undo_command(undoing: Undoing, outcome: UndoOutcome) -> str:
    """Takes the bucket to the moment before the run; "" when nothing was put on top of anything.

    A marker that was removed is not in the history any more, so its key stays.
    """
    plan = undoing.plan
    changed = outcome.counts.get("copied", 0) + outcome.counts.get("marked", 0)
    changed += undoing.refilled.counts.get("back", 0)
    if not isinstance(plan, UndoPlan) or plan.newest_at is None or not changed:
        return ""
    words = ["leeward", "restore", "bucket", plan.bucket, "--to", format_time(plan.newest_at)]
    if plan.prefix:
        words += ["--prefix", plan.prefix]
    return shlex.join(words)


@contextmanager
def progress(console: Console, what: str, total: int | None = None) -> Iterator[Tell]:
    """A bar on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (
        TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _objects(plan: UndoPlan | CopyPlan) -> str:
    then = f"then {counted(plan.state.keys, 'object')}, {format_size(plan.state.size_bytes)}"
    now = f"; now {counted(plan.living, 'object')}" if isinstance(plan, UndoPlan) else ""
    return then + now


def _show_changes(console: Console, plan: UndoPlan) -> None:
    table = _table()
    for action, (sign, style, name, meaning) in LINES.items():
        if not plan.counts[action]:
            continue
        size = format_size(plan.bytes[action]) if plan.bytes[action] else ""
        table.add_row(sign, name, f"{plan.counts[action]:,}", size, meaning, style=style)
        if action != "leave":
            _add_samples(table, plan, action)
    console.print(table)


def _add_samples(table: Table, plan: UndoPlan, action: str) -> None:
    for undo in plan.samples[action]:
        why = undo.why.replace("-", " ")
        table.add_row("", "", "", "", Text(f"{printable(undo.key)}  ({why})", style="dim"))
    more = plan.counts[action] - len(plan.samples[action])
    if more:
        table.add_row("", "", "", "", Text(f"... and {more:,} more", style="dim"))


def _show_copies(console: Console, plan: CopyPlan) -> None:
    table = _table()
    rows: Iterable[tuple[str, str, int, str]] = (
        ("+", "copy", plan.copies, "the version of then"),
        ("=", "compare", plan.there, "there already, with the same size"),
        ("~", "thaw", plan.archived, "of these: in an archive, restored first"),
        ("!", "unknown", plan.unknown, "what stood there is not known: left out"),
        ("!", "foreign", plan.foreign_count, "in the target, and not of that moment"),
    )
    for sign, name, number, meaning in rows:
        if number:
            size = format_size(plan.copied_bytes) if name == "copy" else ""
            table.add_row(sign, name, f"{number:,}", size, meaning)
    console.print(table)


def _table() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _cost_line(cost: Cost) -> str:
    kinds = {name: number for name, number in cost.requests.to_json().items() if number}
    asked = ", ".join(f"{number:,} {name}" for name, number in kinds.items())
    said = f"  {cost.requests.total:,} requests ({asked}); {dollars(cost.once_usd)} once"
    if cost.monthly_usd:
        said += f", {dollars(cost.monthly_usd)} a month for the copies"
    if cost.wait_hours:
        said += f"; up to {cost.wait_hours} hours for what is archived"
    return said


def dollars(amount: float) -> str:
    """ "about $0.02", "less than $0.01"."""
    return f"about ${amount:,.2f}" if amount >= 0.01 else "less than $0.01"


def _wrong(outcome: UndoOutcome, proof: UndoProof) -> Iterator[str]:
    for failure in outcome.failures[:NAMED]:
        yield f"{printable(failure.key)}: {failure.code}: {printable(failure.message)}"
    failed = {failure.key for failure in outcome.failures}
    for one in [it for it in proof.differences if it.key not in failed][:NAMED]:
        yield f"{printable(one.key)}: {one.why.replace('-', ' ')}"
    if proof.differing > NAMED:
        yield f"{proof.differing:,} keys differ; --format json names more"
    if not proof.complete:
        yield "the versions of that moment are no longer what they were before the run"
    if any(one.why == "not-compared" for one in proof.differences):
        yield "not compared: S3 keeps no checksum of these; --read-limit lets more be read"
    if outcome.counts.get("thawing"):
        yield "run the same command again when the archive has given them back"


def to_json(
    undoing: Undoing, outcome: UndoOutcome | None, proof: UndoProof | None, grade: Grade | None
) -> dict[str, Any]:
    wish = undoing.wish
    testimony = undoing.testimony.to_json()
    named = testimony.pop("vanished")
    return {
        "bucket": wish.bucket,
        "prefix": wish.prefix,
        "to_at": format_time(wish.to_at),
        "target": wish.target,
        "plan": undoing.plan.to_json(),
        "warnings": list(warnings_of(undoing)),
        "outcome": outcome.to_json() if outcome else None,
        "proof": proof.to_json() if proof else None,
        "witness": testimony | {"vanished": len(named), "named": named[:NAMED]},
        "refilled": undoing.refilled.to_json(),
        "proven": bool(grade and grade.ok),
        "grade": grade.to_json() if grade else None,
        "undo": undo_command(undoing, outcome) if outcome else "",
    }
