"""The result of checks, comparisons and repairs of copies as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from chalicelib.evidence.text import counted, in_units, printable
from chalicelib.verify.copies.check_run import CheckProgress
from chalicelib.verify.copies.integrity import CheckResult
from chalicelib.verify.copies.locations import Comparison
from chalicelib.verify.copies.repair import RepairAction
from chalicelib.verify.copies.repair_run import RepairResult
from chalicelib.verify.copies.replica import ReplicaResult
from leeward.console import Console

# As many as a person reads; --format json has all.
SHOWN = 50
VERDICTS = {True: Text("ok", style="green"), False: Text("NOT OK", style="bold red")}
WOULD = {
    "copy": "would copy",
    "copy-manifest": "would copy",
    "mend": "would mend",
    "quarantine": "would quarantine",
    "leave": "would leave",
}
OUTCOMES = {"copied": "green", "already-sound": "green", "mended": "green", "quarantined": "yellow"}


def show_checks(console: Console, results: Sequence[CheckResult]) -> None:
    """One line a location, then what is wrong, then what could not be looked at."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("component", "location", ""):
        table.add_column(heading, overflow="fold", min_width=len(heading))
    for heading in ("points", "objects", "bytes", "read", "unread for"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(
            _plain(result.component),
            _plain(result.location),
            VERDICTS[result.ok],
            f"{result.points:,}",
            _looked(result),
            in_bytes(result.total_bytes),
            in_bytes(result.read_bytes),
            in_units(result.oldest_unread_seconds),
        )
    console.print(table)
    console.print()
    _show_findings(console, results)
    _show_unreached(console, results)
    _show_warnings(console, results)


def show_replicas(
    console: Console, replicas: Sequence[tuple[str, str, ReplicaResult | None]]
) -> None:
    """One line a replica of a bucket, then what is wrong, then what could not be looked at."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("replica of", "location", ""):
        table.add_column(heading, overflow="fold", min_width=len(heading))
    for heading in ("objects", "bytes", "read", "newer"):
        table.add_column(heading, justify="right", no_wrap=True)
    for component, location, result in replicas:
        told = ["no inventory", "", "", ""]
        if result is not None:
            sizes = in_bytes(result.total_bytes), in_bytes(result.read_bytes)
            told = [f"{result.objects:,}", *sizes, f"{result.newer:,}"]
        verdict = VERDICTS[result is not None and result.ok]
        table.add_row(_plain(component), _plain(location), verdict, *told)
    console.print(table)
    console.print()
    results = [result for _, _, result in replicas if result is not None]
    _show_findings(console, results)
    _show_unreached(console, results)
    more = sum(result.more for result in results)
    if more:
        console.print(f"and {counted(more, 'finding')} more")


def _looked(result: CheckResult) -> str:
    all_of_them = f"{result.objects:,}"
    return all_of_them if result.looked == result.objects else f"{result.looked:,}/{all_of_them}"


def _show_findings(console: Console, results: Sequence[CheckResult | ReplicaResult]) -> None:
    found = [(result.location, item) for result in results for item in result.findings]
    for location, item in found[:SHOWN]:
        where = f"{location}: {item.key or 'all of it'}"
        told = f"expected {item.expected}, found {item.found}"
        _show_one(console, Text(f"{item.code:<17}", style="bold red"), where, told)
    _show_rest(console, len(found), "finding")


def _show_unreached(console: Console, results: Sequence[CheckResult | ReplicaResult]) -> None:
    found = [(result.location, item) for result in results for item in result.unreached]
    for location, item in found[:SHOWN]:
        code = Text(f"{'not reached':<17}", style="bold yellow")
        _show_one(console, code, f"{location}: {item.key}", f"{item.code}: {item.found}")
    _show_rest(console, len(found), "object")


def _show_one(console: Console, code: Text, where: str, told: str) -> None:
    console.print(code.append(printable(where), style=""), overflow="fold")
    console.print(Padding(Text(_shortened(printable(told)), style="dim"), (0, 0, 0, 17)))


def _shortened(text: str) -> str:
    """Digests by their beginning, as people compare them; --format json has the whole."""
    return re.sub(r"\b([0-9a-f]{16})[0-9a-f]{48}\b", r"\1...", text)


def _show_warnings(console: Console, results: Sequence[CheckResult]) -> None:
    for result in results:
        if not result.budget_suffices:
            budget, needed = in_bytes(result.budget_bytes or 0), in_bytes(result.needed_bytes)
            words = f"{budget} a run do not suffice to read everything in time; {needed} would"
            console.print(_plain(f"{result.location}: {words}"))
        if result.quarantined:
            points = counted(len(result.quarantined), "point")
            words = f"{points} in quarantine, not looked at: {', '.join(result.quarantined)}"
            console.print(_plain(f"{result.location}: {words}"))


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Which recovery points are provably the same in every location, and what is not."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("recovery point", "", "proven in", "digest of its data"):
        table.add_column(heading, overflow="fold")
    for point in comparison.points:
        proven = ", ".join(point.proven_in) or "none"
        table.add_row(
            _plain(point.point_id), VERDICTS[point.equal], _plain(proven), point.digest[:16]
        )
    console.print(table)
    named = (item for point in comparison.points for item in point.differences)
    # Which location did not answer is told once, not for each point.
    differences = [*(item for item in named if item.code != "silent"), *comparison.wal]
    for item in differences[:SHOWN]:
        console.print(_plain(f"{item.code:<15} {item.location}: {item.key}: {item.found}"))
    _show_rest(console, len(differences), "difference")


def show_repair(console: Console, result: RepairResult) -> None:
    for item in result.repaired[:SHOWN]:
        action = item.action
        outcome = Text(f"{item.outcome:<17}", style=OUTCOMES.get(item.outcome, "bold red"))
        where = f"{action.location or 'everywhere'}: {action.key}"
        _show_one(console, outcome, where, item.found)
    _show_rest(console, len(result.repaired), "action")


def show_planned(console: Console, actions: Sequence[RepairAction]) -> None:
    """What a repair would do, and from where."""
    for action in actions[:SHOWN]:
        would = Text(f"{WOULD[action.do]:<17}", style="yellow")
        where = f"{action.location or 'everywhere'}: {action.key}"
        told = f"from {' or '.join(action.sources)}" if action.sources else action.reason
        _show_one(console, would, where, told)
    _show_rest(console, len(actions), "action")


def _show_rest(console: Console, count: int, word: str) -> None:
    if count > SHOWN:
        console.print(f"and {counted(count - SHOWN, word)} more: --format json has all")


def _plain(value: str) -> Text:
    """Not a str: in those rich takes brackets for its own markup."""
    return Text(printable(value))


class CheckBar:
    """A bar of looked-at objects, then one of bytes read; nothing where no person watches."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task("look", total=None)

    def __enter__(self) -> CheckBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, at: CheckProgress) -> None:
        looking = at.to_read_bytes == 0
        words = f"look {at.looked:,} of {at.to_look:,}" if looking else "read"
        self._progress.update(
            self._task,
            description=words,
            total=at.to_read_bytes or None,
            completed=at.read_bytes,
        )


def in_bytes(count: int) -> str:
    """1234567 -> "1.2 MB"."""
    power = max(0, (len(str(count)) - 1) // 3)
    if not power:
        return f"{count} bytes"
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB', 'TB', 'PB')[power - 1]}"
