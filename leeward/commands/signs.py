"""leeward signs show | plant | clear: what the watch for ransomware found of a bucket."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from chalicelib.errors import BadInput
from chalicelib.evidence.text import counted
from chalicelib.plan.records import format_time
from leeward.console import Console
from leeward.deployed import DEPLOYED, reach
from leeward.options import FORMAT, PLAN_PATH, writing_to
from leeward.plan_file import load_plan

if TYPE_CHECKING:
    from chalicelib.verify.ransomware import LastLook

SEED_BYTES = 32
# The watch looks every five minutes.
STALE_AFTER = timedelta(hours=1)
NOT_SEEN = 3
PLAN = click.option(
    "--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML."
)  # fmt: skip


@click.group(short_help="Signs of ransomware in a bucket: shown, cleared; canaries.")
def command() -> None:
    """What the watch for ransomware found of a bucket of the plan: docs/ransomware.md."""


@command.command(short_help="Print the last judgement and what it rests on.")
@click.argument("component")
@PLAN
@FORMAT
def show(component: str, plan_path: Path, form: str) -> None:
    """Print the last judgement of COMPONENT's bucket, the signs that it rests on, and what the look
    could not see.

    Exit status: 0 not infected; 1 infected, or never looked at; 3 not infected as far as could be
    seen: it was blind for something, or is older than an hour.

    \b
    Example:
    leeward signs show nexus-uploads --plan policies/plans/nexus-studio.yaml
    """
    from chalicelib.services import build
    from chalicelib.verify.ransomware import last_look

    with _bucket(component, plan_path) as bucket:
        found, now = last_look(bucket, state=build.state()), build.clock().now()
    if form == "json":
        told = {
            "judgement": found.judgement.to_json() if found else None,
            "looked_at": format_time(found.looked_at) if found else None,
            "blind": list(found.blind) if found else [],
        }
        click.echo(json.dumps({"component": component, "bucket": bucket, **told}))
    else:
        _print(bucket, found)
    if found is None or found.judgement.infected:
        sys.exit(1)
    if found.blind or now - found.looked_at > STALE_AFTER:
        sys.exit(NOT_SEEN)


@command.command(short_help="Plant canaries under prefixes.")
@click.argument("component")
@PLAN
@click.option(
    "--prefix", "prefixes", multiple=True, help="A folder of the bucket; may be repeated."
)
@click.option(
    "--seed-file",
    type=click.Path(path_type=Path),
    required=True,
    help="The secret that names follow from; made when it is not there.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be planted, and plant nothing.")
@FORMAT
def plant(
    component: str,
    plan_path: Path,
    prefixes: tuple[str, ...],
    seed_file: Path,
    dry_run: bool,
    form: str,
) -> None:
    """Plant two canaries under each prefix of COMPONENT's bucket: papers of an office that nobody
    needs, first and last by name. Who rewrites or deletes one goes through everything.

    Without --prefix they are planted at the top. Safe to repeat. Keep the seed out of the bucket's
    account, and the canaries out of what prunes or mirrors with deletion.

    Exit status: 0 they are there; 1 refused, or no answer; 2 the input cannot be used.

    \b
    Example:
    leeward signs plant nexus-uploads --plan plan.yaml \\
        --prefix avatars/ --seed-file canaries.seed
    """
    from chalicelib.adapters.s3.store import S3ObjectStore
    from chalicelib.services import build
    from chalicelib.verify.canaries import choose_canaries, plant_canaries

    with _bucket(component, plan_path) as bucket:
        if dry_run:
            _require_seed(seed_file)
            chosen = choose_canaries(prefixes or ("",), _seed(seed_file))
            _show_keys(component, [key for key, _ in chosen], form)
            return
        planted = plant_canaries(
            bucket,
            prefixes or ("",),
            seed=_seed(seed_file),
            store=S3ObjectStore(build.objects_s3(), bucket),
            state=build.state(),
            clock=build.clock(),
        )
    if form == "json":
        click.echo(
            json.dumps({"component": component, "planted": [it.to_json() for it in planted]})
        )
    else:
        for canary in planted:
            click.echo(canary.key)


@command.command(short_help="Say that what was found has been dealt with.")
@click.argument("component")
@PLAN
@click.option("--dry-run", is_flag=True, help="Say what would be forgotten, and forget nothing.")
@FORMAT
def clear(component: str, plan_path: Path, dry_run: bool, form: str) -> None:
    """Forget what was found of COMPONENT's bucket, once its cause is gone: the next look starts
    without it. Until then each new recovery point is quarantined. Habits stay; points that were
    quarantined stay so, until `leeward catalogue unquarantine` frees them.

    Exit status: 0; 1 refused, or no answer; 2 the input cannot be used.

    \b
    Example:
    leeward signs clear nexus-uploads --plan policies/plans/nexus-studio.yaml
    """
    from chalicelib.services import build
    from chalicelib.verify.ransomware import clear_signs, last_judgement

    with _bucket(component, plan_path) as bucket:
        found = last_judgement(bucket, state=build.state())
        standings = build.catalogue(component).holdings().standings
        stay = [it.point.id for it in standings if it.is_suspect]
        if not dry_run:
            clear_signs(bucket, state=build.state())
    signs = len(found.signs) if found else 0
    if form == "json":
        told = {"component": component, "cleared": None if dry_run else bucket, "signs": signs,
                "quarantined": stay}  # fmt: skip
        click.echo(json.dumps(told))
    elif dry_run:
        click.echo(f"{bucket}: {counted(signs, 'sign')} would be forgotten")
    else:
        click.echo(f"{bucket}: the next look starts without what was found")
    if stay and form == "text":
        click.echo(
            f"{counted(len(stay), 'recovery point')} quarantined until "
            f"`leeward catalogue unquarantine {component} POINT...`: {', '.join(stay)}"
        )


@contextmanager
def _bucket(component: str, plan_path: Path) -> Iterator[str]:
    """The bucket's name, while the deployment can be reached."""
    from chalicelib.services.jobs.buckets import bucket_component

    with reach(load_plan(plan_path).plan, DEPLOYED):
        yield bucket_component(component).bucket


def _show_keys(component: str, keys: list[str], form: str) -> None:
    if form == "json":
        click.echo(json.dumps({"component": component, "planted": [], "would_plant": keys}))
        return
    for key in keys:
        click.echo(f"would plant {key}")


def _require_seed(path: Path) -> None:
    if not path.exists():
        raise BadInput(
            f"expected a seed in {path}, from which the names follow, found none",
            hint="plant without --dry-run, which makes one; or write 64 hexadecimal digits there",
            code="bad-seed",
        )


def _seed(path: Path) -> bytes:
    """Raises BadInput (code "bad-seed", "not-writable")."""
    if not path.exists():
        with writing_to(path.parent):
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(SEED_BYTES))
    try:
        seed = bytes.fromhex(path.read_text())
    except (OSError, ValueError) as error:
        raise _bad_seed(path, "what cannot be read as one") from error
    if len(seed) < SEED_BYTES:
        raise _bad_seed(path, f"{len(seed)} bytes")
    return seed


def _bad_seed(path: Path, found: str) -> BadInput:
    return BadInput(
        f"expected {SEED_BYTES} bytes in hexadecimal digits in {path}, found {found}",
        hint="name the file that an earlier run made, or one that is not there",
        code="bad-seed",
    )


def _print(bucket: str, look: LastLook | None) -> None:
    console = Console(highlight=False)
    if look is None:
        console.print(f"{bucket}: nobody has looked at it yet")
        return
    found = look.judgement
    since = f" since {found.started_at:%Y-%m-%d %H:%M:%S} UTC" if found.started_at else ""
    verdict = f"[bold red]INFECTED{since}[/]" if found.infected else "not infected"
    console.print(f"{bucket}: {verdict}, suspicion {found.suspicion:.2f}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("score", "sign", "at (UTC)", "what"):
        table.add_column(name)
    for sign in found.signs:
        at = f"{sign.at:%Y-%m-%d %H:%M:%S}"
        table.add_row(f"{sign.score:.2f}", sign.detector, at, _plain(sign.found))
    console.print(table)
    console.print(f"looked at {look.looked_at:%Y-%m-%d %H:%M:%S} UTC")
    for told in look.blind:
        console.print(_plain(f"not seen: {told}"), soft_wrap=True)


def _plain(text: str) -> Any:
    """Names come from whoever writes to the bucket: they are no markup."""
    from rich.text import Text

    return Text(text)
