"""What becomes of the versions of a bucket's replica: looked at, removed, shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from chalicelib.errors import LeewardError
from chalicelib.evidence.text import counted, printable
from chalicelib.plan.components import BaseComponent
from chalicelib.plan.prices import usd_per_month
from chalicelib.plan.records import format_time
from chalicelib.plan.units import format_size
from leeward.console import Console
from leeward.retention.summary import tell_price

if TYPE_CHECKING:
    from chalicelib.backup.bucket.expire_versions import Expired, ExpiryDecision
    from chalicelib.services.jobs.expiring import Watching


@dataclass(frozen=True)
class Versions:
    """Of one component's replica in one location. `decision`: None when it could not be made, for
    which there is the `error`; `expired`: None when nothing was to be removed."""

    component: str
    place: str
    decision: ExpiryDecision | None = None
    expired: Expired | None = None
    error: LeewardError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None and not (self.expired and self.expired.failed)

    @property
    def usd_per_month(self) -> float:
        return usd_per_month(self.decision.goes.size_bytes, "aws") or 0 if self.decision else 0


def keeps_versions(component: BaseComponent) -> bool:
    return component.retention is not None and component.retention.versions is not None


def treat_versions(
    component: str, place: str, *, remove: bool, approved: bool, form: str
) -> Versions:
    """Decide, and with `remove` do it. An error is told beside what else was pruned."""
    from chalicelib.services.jobs.expiring import expire_now, look_at_versions

    try:
        with _watched(component, form) as watching:
            if not remove:
                return Versions(component, place, look_at_versions(component, watching=watching))
            done = expire_now(component, approved=approved, watching=watching)
            return Versions(component, place, done.decision, done)
    except LeewardError as error:
        return Versions(component, place, error=error)


@contextmanager
def _watched(component: str, form: str) -> Iterator[Watching]:
    """Nobody knows beforehand how many versions there are: a count instead of a bar."""
    from chalicelib.services.jobs.expiring import Watching

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    hidden = form == "json" or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(f"versions of {component}: inventories")
        removed = 0

        def tell(what: str) -> None:
            progress.update(task, description=f"versions of {component}: {what}")

        def tell_removed(number: int) -> None:
            nonlocal removed
            removed += number
            tell(f"{removed:,} removed")

        yield Watching(
            read=lambda number: tell(f"{number:,} files of inventories read"),
            listed=lambda number: tell(f"{number:,} listed"),
            removed=tell_removed,
        )


def print_versions(one: Versions, console: Console) -> None:
    console.print(Text(f"versions in the replica of {one.component}, {one.place}", "bold"))
    if one.decision is not None:
        _print_fates(one.decision, one.usd_per_month, console)
    if one.expired is not None:
        removed = one.expired.removed
        size = format_size(removed.size_bytes)
        console.print(f"  removed {counted(removed.versions, 'version')}, {size}")
        if one.expired.failed:
            console.print(f"  S3 refused {one.expired.failed:,}:", style="bold red")
        for it in one.expired.failures:
            line = f"    {printable(it.key)} {it.version_id}: {it.code}"
            console.print(line, markup=False, soft_wrap=True)
    if one.error is not None:
        console.print(f"  not done: {one.error.message}", markup=False, style="red")
        console.print(f"  HINT: {one.error.hint}", markup=False)
    console.print()


def _print_fates(decision: ExpiryDecision, price: float, console: Console) -> None:
    before = decision.replaced_before_at.strftime("%Y-%m-%d %H:%M UTC")
    rows = (
        ("stays", decision.current, "what readers get"),
        ("stays", decision.named, "named by inventories"),
        ("stays", decision.young, f"replaced since {before}"),
        ("goes", decision.goes, tell_price(price) if price else "nothing"),
    )
    for fate, tally, words in rows:
        size = format_size(tally.size_bytes)
        console.print(f"  {fate:<6}{tally.versions:>13,} {size:>9}  {words}")


def versions_as_json(one: Versions) -> dict[str, Any]:
    decision, expired = one.decision, one.expired
    return {
        "component": one.component,
        "location": one.place,
        "replica": decision.replica if decision else None,
        "replaced_before": format_time(decision.replaced_before_at) if decision else None,
        "inventories": decision.inventories if decision else None,
        "current": decision.current.to_json() if decision else None,
        "named": decision.named.to_json() if decision else None,
        "young": decision.young.to_json() if decision else None,
        "goes": decision.goes.to_json() if decision else None,
        "freed_usd_per_month": round(one.usd_per_month, 2) if decision else None,
        "removed": expired.removed.to_json() if expired else None,
        "refused": expired.failed if expired else None,
        "error": one.error.to_json() if one.error else None,
    }
