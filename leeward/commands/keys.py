"""`leeward keys`: the offline key, and who can open the copies that lie outside AWS."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalicelib.errors import BadInput, LeewardError, Truncated
from chalicelib.evidence.text import counted, printable_lines
from leeward.deployed import Access, access_options, copies_of, reach
from leeward.options import FORMAT, PLAN_PATH, writing_to
from leeward.plan_file import load_plan

if TYPE_CHECKING:
    from chalicelib.services.locations import Locations

LEAST_CHARACTERS = 16

STORE = click.option(
    "--store",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    help="A copy's folder: what holds keys/ and the objects.",
)
PRIVATE_KEY = click.option(
    "--private-key",
    type=click.Path(path_type=Path),
    help="Private half of an offline key (PEM); its passphrase is asked for.",
)
PASSPHRASE_FILE = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Its passphrase: the first line of this file.",
)


@click.group()
def command() -> None:
    """Keys of copies that lie outside AWS."""


@command.command()
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The folder to write to."
)
@PASSPHRASE_FILE
@FORMAT
def create(out: Path, passphrase_file: Path | None, form: str) -> None:
    """Make an offline key pair: the last way into copies when AWS is lost.

    Writes offline-private.pem (mode 0600, encrypted) and offline-public.pem, and overwrites
    nothing. Without a passphrase file it makes a passphrase and prints it, once. Take the private
    half away from here, its passphrase elsewhere; the public half is a recipient in the plan.

    \b
    Example:
    leeward keys create --out /media/stick
    """
    from chalicelib.adapters.sealing.offline_keys import (
        OfflinePublicKey,
        create_key_pair,
        make_passphrase,
    )

    passphrase = _strong(_first_line(passphrase_file)) if passphrase_file else make_passphrase()
    with writing_to(out):
        private, public = create_key_pair(out, passphrase)
    made = {
        "private_key": str(private),
        "public_key": str(public),
        "recipient": OfflinePublicKey(public.read_bytes()).name,
        "passphrase": None if passphrase_file else passphrase,
    }
    click.echo(json.dumps(made) if form == "json" else _lines(made))


@command.command()
@STORE
@PRIVATE_KEY
@PASSPHRASE_FILE
@click.option(
    "--kms", is_flag=True, help="Ask the KMS keys too, with the AWS rights of this shell."
)
@FORMAT
@click.pass_context
def show(
    ctx: click.Context,
    folder: Path,
    private_key: Path | None,
    passphrase_file: Path | None,
    kms: bool,
    form: str,
) -> None:
    """List the data keys of a copy and who can open them.

    With a private key or --kms it also opens each: status 1 when one that is tried does not open.

    \b
    Example:
    leeward keys show --store /mnt/copy/nexus-db --private-key offline-private.pem
    """
    from chalicelib.adapters.sealing.key_ring import check_key_set

    sets = _key_sets(folder)
    openers: list[Any] = private_openers(private_key, passphrase_file)
    openers += _kms_keys(name for it in sets for name in it.names) if kms else []
    shown = [
        it.to_json() | {"checks": [check.to_json() for check in check_key_set(it, openers)]}
        for it in sets
    ]
    proven = [bool(it["checks"]) and all(check["ok"] for check in it["checks"]) for it in shown]
    click.echo(json.dumps({"key_sets": shown}) if form == "json" else _table(shown))
    ctx.exit(0 if all(proven) or not (openers or kms) else 1)


@command.command()
@STORE
@click.option("--location", required=True, help="The location that the copy was sealed for.")
@click.option(
    "--recipient",
    "wanted",
    multiple=True,
    required=True,
    help="ARN of a KMS key, or a public half (PEM). Name all that are wanted.",
)
@PRIVATE_KEY
@PASSPHRASE_FILE
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@FORMAT
@click.pass_context
def rewrap(
    ctx: click.Context,
    folder: Path,
    location: str,
    wanted: Sequence[str],
    private_key: Path | None,
    passphrase_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Give the data keys of a copy exactly these recipients; no object is touched.

    They are opened by the private key, otherwise by the KMS keys that they are wrapped for. When
    a recipient is removed, new objects get a new data key. Safe to repeat.

    \b
    Example:
    leeward keys rewrap --store /mnt/copy/nexus-db \\
        --location gcs/nexus-db --recipient new.pem \\
        --private-key offline-private.pem
    """
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.adapters.folder.store import FolderObjectStore
    from chalicelib.adapters.sealing.key_ring import KeyRing

    sets = _key_sets(folder)
    _require_location(location, sets)
    names = [name for it in sets for name in it.names]
    ring = KeyRing(
        FolderObjectStore(folder),
        location,
        clock=SystemClock(),
        recipients=[_recipient(it) for it in wanted],
        openers=[*private_openers(private_key, passphrase_file), *_kms_keys(names)],
    )
    decided = ring.decide_rewrap()
    if not dry_run:
        ring.apply_rewrap(decided)
    changes = [
        {"key_id": it.key_id, "add": it.add, "remove": it.remove, "keep": it.keep} for it in decided
    ]
    left = [it.key_id for it in ring.decide_rewrap() if it.needed]
    done = {"changed": not dry_run, "key_sets": changes, "left": left}
    click.echo(json.dumps(done) if form == "json" else _changes(done))
    ctx.exit(1 if left and not dry_run else 0)


def _key_sets(folder: Path) -> list[Any]:
    """Oldest first. Raises BadInput (code "no-key-sets") when there is none."""
    from chalicelib.adapters.sealing.key_sets import read_key_set

    paths = sorted((folder / "keys").glob("*.json"))
    if not paths:
        raise BadInput(
            f"expected key sets in {folder / 'keys'}, found none",
            hint="name the folder of a sealed copy: what holds keys/ and the objects",
            code="no-key-sets",
        )
    return [read_key_set(path.read_bytes(), path.stem) for path in paths]


def _require_location(location: str, sets: Iterable[Any]) -> None:
    """Raises BadInput (code "other-location")."""
    others = sorted({it.location for it in sets} - {location})
    if others:
        raise BadInput(
            f"expected key sets of {location}, found some of {', '.join(others)}",
            hint=f"if that is the copy you mean, name it: --location {others[0]}",
            code="other-location",
        )


def private_openers(path: Path | None, passphrase_file: Path | None) -> list[Any]:
    """What opens with a private key; its passphrase is asked for when no file has it."""
    from chalicelib.adapters.sealing.offline_keys import OfflinePrivateKey

    if path is None:
        return []
    pem = _read(path)
    encrypted = b"ENCRYPTED" in pem
    return [OfflinePrivateKey(pem, _passphrase(passphrase_file) if encrypted else "")]


def _kms_keys(names: Iterable[str]) -> list[Any]:
    from chalicelib.adapters.sealing.kms_keys import KmsKey, connect_kms, region_of

    arns = sorted({name for name in names if name.startswith("arn:")})
    return [KmsKey(connect_kms(region_of(arn)), arn) for arn in arns]


def _recipient(text: str) -> Any:
    from chalicelib.adapters.sealing.offline_keys import OfflinePublicKey

    return _kms_keys([text])[0] if text.startswith("arn:") else OfflinePublicKey(_read(Path(text)))


def _passphrase(path: Path | None) -> str:
    if path is not None:
        return _first_line(path)
    if sys.stdin.isatty():
        return str(click.prompt("passphrase of the private key", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\n")


def _first_line(path: Path) -> str:
    return _read(path).decode(errors="replace").partition("\n")[0]


def _strong(passphrase: str) -> str:
    if len(passphrase) < LEAST_CHARACTERS:
        raise BadInput(
            f"expected a passphrase of at least {LEAST_CHARACTERS} characters, "
            f"found {len(passphrase)}",
            hint="leave --passphrase-file out, and one is made",
            code="weak-passphrase",
        )
    return passphrase


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {(error.strerror or type(error).__name__).lower()}",
            hint="name a file that is there and yours to read",
            code="file-unreadable",
        ) from error


def _lines(made: dict[str, str | None]) -> str:
    rows = [f"{name.replace('_', ' '):<12} {value}" for name, value in made.items() if value]
    if made["passphrase"]:
        rows.append("Write the passphrase down now: it is stored nowhere.")
    return "\n".join(rows)


def _table(shown: list[dict[str, Any]]) -> str:
    rows = []
    for it in shown:
        made_at = datetime.fromisoformat(it["created_at"])
        rows.append(it["key_id"])
        rows.append(f"  of {it['location']}, made {made_at:%Y-%m-%d %H:%M} UTC")
        checks = {check["name"]: check for check in it["checks"]}
        rows += [f"  {_word(checks.get(name)):<10} {name}" for name in _names(it)]
        rows += [f"             {check['found']}" for check in it["checks"] if not check["ok"]]
    return "\n".join(rows)


def _names(shown: dict[str, Any]) -> list[str]:
    return [entry["recipient"] for entry in shown["recipients"]]


def _word(check: dict[str, Any] | None) -> str:
    if check is None:
        return "not tried"
    return "opens" if check["ok"] else "FAILS"


def _changes(done: dict[str, Any]) -> str:
    rows = []
    for change in done["key_sets"]:
        rows.append(change["key_id"])
        rows += [
            f"  {word:<7} {name}" for word in ("keep", "add", "remove") for name in change[word]
        ]
    if not done["changed"]:
        return "\n".join([*rows, "nothing was changed"])
    unfinished = [f"not done: {key_id}; repeat the command" for key_id in done["left"]]
    return "\n".join([*rows, *(unfinished or ["done; no object was touched"])])


@command.command(short_help="Give all copies of a plan the recipients that it names now.")
@click.argument("plan_path", metavar="PLAN", type=PLAN_PATH)
@click.option("--component", "components", multiple=True, help="Only this one; may be repeated.")
@click.option("--location", "locations", multiple=True, help="Only there; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@access_options
@FORMAT
@click.pass_context
def update(
    ctx: click.Context,
    plan_path: Path,
    components: tuple[str, ...],
    locations: tuple[str, ...],
    dry_run: bool,
    access: Access,
    form: str,
) -> None:
    """Give the data keys of PLAN's sealed copies the recipients that it names now: the KMS key,
    its replica, the offline key. No object is touched or uploaded again. Safe to repeat.

    Run it after a key of the plan has changed, and after a region came back in which a key could
    not be asked. What it cannot open is named, with status 1.

    \\b
    Example:
    leeward keys update policies/plans/nexus-studio.yaml --dry-run
    """
    with reach(load_plan(plan_path).plan, access) as places:
        pairs = copies_of(places, components, locations, primary=False)
        done = [_update(places, *pair, dry_run=dry_run) for pair in pairs]
    sealed = [it for it in done if it is not None]
    if not sealed:
        raise BadInput(
            "expected a sealed copy among those that are named, found none",
            hint="copies in other clouds are sealed, and on own servers those with a `key`; "
            "in AWS none is",
            code="nothing-sealed",
        )
    if form == "json":
        click.echo(json.dumps({"changed": not dry_run, "copies": sealed}))
    else:
        for it in sealed:
            click.echo(printable_lines(_told(it, dry_run=dry_run)))
    if not all(it["ok"] for it in sealed):
        ctx.exit(1)


def _update(
    places: Locations, component: str, location: str, *, dry_run: bool
) -> dict[str, Any] | None:
    """None for what is not sealed."""
    from chalicelib.adapters.sealing.store import SealedStore

    told: dict[str, Any] = {"component": component, "location": location}
    try:
        store = places.store(location, component)
        if not isinstance(store, SealedStore):
            return None
        looked = store.keys.decide_rewrap()
        if not looked and next(store.list(), None) is not None:
            raise Truncated(
                "expected the data keys of what is sealed there, found none",
                code="key-missing",
                hint="`leeward copy` puts back those that are kept in the primary location.",
            )
        decided = [it for it in looked if it.needed]
        if not dry_run:
            store.keys.apply_rewrap(decided)
    except LeewardError as error:
        return told | {"ok": False, "error": error.to_json()}
    changes = [{"key_id": it.key_id, "add": it.add, "remove": it.remove} for it in decided]
    return told | {"ok": True, "data_keys": len(looked), "changes": changes}


def _told(update: dict[str, Any], *, dry_run: bool) -> str:
    where = f"{update['component']} in {update['location']}"
    if not update["ok"]:
        return f"{where}: {update['error']['message']}"
    if not update["data_keys"]:
        return f"{where}: nothing is sealed there yet, so that there is no data key"
    if not update["changes"]:
        keys = counted(update["data_keys"], "data key")
        return f"{where}: {keys} in all, each with the plan's recipients"
    would = "would change" if dry_run else "changed"
    lines = [f"{where}: {len(update['changes'])} {would}"]
    for it in update["changes"]:
        lines += [f"  {it['key_id']}  + {name}" for name in it["add"]]
        lines += [f"  {it['key_id']}  - {name}" for name in it["remove"]]
    return "\n".join(lines)
