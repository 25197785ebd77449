"""The steps that put copies on a server: folders, code, the keys of its Redis.

A server needs nothing of Leeward's: it fetches what is restored by an address that is signed for
some minutes, compares it with the digest of the manifest, and unpacks it (docs/decisions/0015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chalicelib.adapters.s3.links import sign_download
from chalicelib.errors import (
    CheckFailed,
    Damaged,
    NotReady,
    Unavailable,
)
from chalicelib.evidence.entries import (
    Entry,
    chosen_point,
    data_loss,
    decision,
    proven,
)
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Files, Redis
from chalicelib.plan.records import CheckResult, Proof, RecoveryPoint, format_time
from chalicelib.ports.servers import Commands, Ran, ServerFacts
from chalicelib.recover.sites.host_scripts import (
    NO_DOWNLOAD,
    NO_PROGRAM,
    NO_REVISION,
    NOT_ON_DISK,
    NOT_UNPACKED,
    PATH_MISSING,
    WRONG_DIGEST,
    Download,
    place_files,
)
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say
from chalicelib.services.steps.servers.launch import commands_of, facts_of, server_of
from chalicelib.services.steps.sources import (
    END,
    Source,
    damaged_copies,
    say_rejected,
    use_best,
)

if TYPE_CHECKING:
    from chalicelib.adapters.redis.source import RedisServer
    from chalicelib.adapters.secrets import SecretAddresses

Outputs = dict[str, Any]

# Of the step's 900 s.
RESTORE_SECONDS = 780.0
ASK_SECONDS = 20.0
SIGNED_SECONDS = 840
# What goes through the backup bucket from one server to another, or out of a sealed copy: plain,
# and no component's. A rule of the bucket removes it after a day (infra/storage.json).
TRANSIT = "_transit"
REVISION_BYTES = 200


@dataclass(frozen=True)
class Place:
    """Where a step restores to: the component that says how it lies there, and the server."""

    component: str
    server: ServerFacts
    server_component: str
    commands: Commands


def place_of(run: Run, inputs: dict[str, Any]) -> Place:
    """On a server that this run launched the component itself; else what stands in for it.

    Raises NotReady (code "on-no-server") when the plan does not say which server it lies on.
    """
    name, instance = str(inputs["component"]), str(inputs.get("instance") or "")
    target = name if instance else acting_on(run, name)
    lies_on = build.locations().component(target).on
    if lies_on is None:
        raise NotReady(
            f"expected the plan to say which server {target} lies on, found nothing",
            code="on-no-server",
            hint="add `on` with the name of a server",
        )
    on = acting_on(run, lies_on) if instance else lies_on
    return Place(target, facts_of(run, on, instance), on, commands_of(server_of(on)))


def files_restore_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """The newest clean point of the folders, each put in its place, from the location that has
    it whole."""
    from chalicelib.services.jobs.taking import roots_of

    place, component = place_of(run, inputs), str(inputs["component"])
    found: Files = build.locations().component(place.component)
    root, _ = roots_of(found.paths)

    def use(source: Source, point: RecoveryPoint) -> str:
        download = download_of(run, source, component, point, "files.tar.zst")
        script = place_files(key_of(run), download, str(root), found.paths)
        ran = run_script(run, place, script, about=f"{source.location}/{point.id}")
        require_done(ran, point, lambda: _require_whole(source, point))
        return ran.output.split()[0]

    source, point, entries = use_best(run, component, "archive", use)
    say_chosen(run, component, source, point)
    say(run, _loss(run, component, point))
    say(run, _proof(component, point, "files-in-place", f"{entries} files, digests as stored"))
    return {
        "found": f"{point.id} of {format_time(point.taken_at)} from {source.location}: {entries} "
        f"files in {', '.join(found.paths)} on {place.server.id}",
        "instance": place.server.id,
        "point": point.id,
        "taken_at": format_time(point.taken_at),
    }


def cache_restore_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """The newest clean dump, from the location that has it whole, written over the network into the
    Redis on the server.

    The first attempt demands a Redis without keys; what a later one finds there is the run's own.
    """
    from chalicelib.adapters.redis.source import RedisServer
    from chalicelib.recover.restore_redis import RestoredKeys, restore_dump

    place, component = place_of(run, inputs), str(inputs["component"])
    found: Redis = build.locations().component(place.component)
    url = redis_url(found, place.server.address if inputs.get("instance") else "")
    with RedisServer(url) as server:
        require_empty_at_first(run, component, server)

        def use(source: Source, point: RecoveryPoint) -> RestoredKeys:
            clock = build.clock()
            return restore_dump(source.store, point, server, clock=clock, existing="clear")

        source, point, made = use_best(run, component, "dump", use)
    moved = move_secret(run, found, url, build.addresses()) if inputs.get("instance") else ""
    say_chosen(run, component, source, point)
    say(run, _loss(run, component, point))
    say(run, _proof(component, point, "keys-in-place", f"each of {made.keys} keys was found"))
    return {
        "found": f"{made.point_id} of {format_time(made.taken_at)} from {source.location}: "
        f"{made.keys} keys in {made.server}, {made.expired} had expired{moved}",
        "point": made.point_id,
        "keys": made.keys,
        "taken_at": format_time(made.taken_at),
    }


def redis_url(found: Redis, address: str = "") -> str:
    """The secret's address; with that of a server, of the Redis on that one instead."""
    if found.secret is None:
        raise NotReady(
            "expected the plan to say where the address of Redis is kept, found nothing",
            code="no-secret",
            hint="add `secret` to the component",
        )
    url = str(build.locations().secret(found.secret)["url"])
    if not address:
        return url
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    netloc = f"{login}{at}{address}:{parts.port or 6379}"
    return parts._replace(netloc=netloc).geturl()


def move_secret(run: Run, found: Redis, url: str, addresses: SecretAddresses) -> str:
    """Let the secret lead to the new server, so that the next dump is of it: where it has an
    address. A name moves with the traffic, and a drill moves nothing of production's."""
    kept = addresses.content(str(found.secret))
    host = urlsplit(str(kept["url"])).hostname or ""
    if run.drill or kept["url"] == url or not _is_address(host):
        return ""
    parted = addresses.replace(str(found.secret), {**kept, "url": url})
    why = "it named the replaced server; to undo: the version AWSPREVIOUS" + (
        "; it follows the secret of its own region no longer: replicate that again when it is back"
        if parted
        else ""
    )
    say(run, decision(what=f"point the secret {found.secret} to the new server", why=why))
    return f"; {found.secret} leads there now"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def require_empty_at_first(run: Run, component: str, server: RedisServer) -> None:
    """Of the first attempt; what a later one finds there is the run's own."""
    partition, sort = f"run#{run.run_id}", f"redis#{component}"
    if build.state().get(partition, sort) is None:
        _require_empty(server)
        build.state().create(partition, sort, {"server": server.name})


def _require_empty(server: RedisServer) -> None:
    keys = sum(server.facts().keys.values())
    if keys:
        raise NotReady(
            f"expected {server.name} to have no keys before the restore, found {keys}",
            code="target-not-empty",
            hint="is it the new server's? look at its keys, and remove them if they may go",
        )


def download_of(
    run: Run, source: Source, component: str, point: RecoveryPoint, name: str
) -> Download:
    """An object of a point as the server can fetch it. Of a copy that is sealed, or elsewhere, a
    plain copy is made in the backup bucket first."""
    stored = next(it for it in point.objects if it.key.endswith(f"/{name}"))
    if source.location != build.locations().primary:
        key = f"{run.run_id}/{component}-{name}"
        with build.backups(TRANSIT).open_writer(key) as writer:
            for piece in source.store.read(stored.key):
                writer.write(piece)
            writer.commit()
        return Download(sign_object(sign_download, f"{TRANSIT}/{key}"), stored.sha256)
    return Download(sign_object(sign_download, f"{component}/{stored.key}"), stored.sha256)


def sign_object(sign: Callable[..., str], key: str) -> str:
    """An address of an object of the backup bucket, for some minutes."""
    region = build.plan().locations[build.locations().primary].region
    return sign(build.environment().backup_bucket, key, seconds=SIGNED_SECONDS, region=region)


def say_chosen(run: Run, component: str, source: Source, point: RecoveryPoint) -> None:
    """With every newer point that may not be used, found damaged now or before."""
    newer = {
        (source.location, it.point.id): it.quarantined
        for it in source.holdings().standings
        if it.quarantined and it.point.taken_at > point.taken_at
    }
    for location, copies in damaged_copies(run, component).items():
        newer |= {(location, point_id): why for point_id, why in copies.items()}
    for (location, point_id), why in newer.items():
        say_rejected(run, location, point_id, why)
    reason = f"the newest clean point of {component}, in {source.location}"
    if newer:
        told = ", ".join(f"{point_id} in {location}" for location, point_id in sorted(newer))
        reason += f"; quarantined or damaged: {told}"
    entry = chosen_point(point=point.id, reason=reason, taken_at=point.taken_at, chain=[point.id])
    say(run, entry, about=f"{component}/{source.location}/{point.id}")


def _loss(run: Run, component: str, point: RecoveryPoint) -> Entry:
    """What was changed between the point and the alarm is lost, at most."""
    return data_loss(
        last_commit_before_at=max(run.alarm_at, point.taken_at),
        last_commit_recovered_at=point.taken_at,
        rows_lost=None,
        how=f"what changed in {component} between the recovery point and the alarm, at most",
        bounded=True,
    )


def _proof(component: str, point: RecoveryPoint, name: str, found: str) -> Entry:
    return proven(
        Proof(
            component=component,
            point_id=point.id,
            proven_at=build.clock().now(),
            target=END,
            recovered_lsn=0,
            last_commit_at=None,
            checks=(CheckResult(name, True, found),),
        )
    )


def run_script(run: Run, place: Place, script: str, *, about: str = "") -> Ran:
    name = f"{key_of(run)}/{about}" if about else key_of(run)
    return place.commands.run(place.server.id, script, name=name, limit_seconds=RESTORE_SECONDS)


def key_of(run: Run) -> str:
    return f"{run.run_id}/{run.step}"


def require_done(ran: Ran, point: RecoveryPoint, require_whole: Callable[[], None]) -> None:
    """Damage is believed when the object is found damaged in the store too.

    Raises: Damaged, of which the next best copy is tried; Unavailable; CheckFailed.
    """
    if ran.status == 0:
        return
    told = (ran.errors or ran.output).strip()[-300:]
    if ran.status in (WRONG_DIGEST, NOT_UNPACKED):
        require_whole()
    if ran.status in (WRONG_DIGEST, NO_DOWNLOAD):
        raise Unavailable(
            f"expected the server to fetch {point.id}, it got something else or nothing: {told}",
            hint="does the server reach S3? it is tried again",
            code="download-failed",
        )
    what, hint = _FAILURES.get(ran.status, ("a command failed", "read the output"))
    raise CheckFailed(
        f"expected {point.id} in its place on the server, {what} (status {ran.status}): {told}",
        code="restore-failed",
        hint=hint,
    )


_FAILURES = {
    NOT_UNPACKED: ("it could not be unpacked", "does the server have room, zstd and tar?"),
    PATH_MISSING: (
        "a path of the plan is not in it",
        "the path did not exist when it was taken: correct the plan's paths",
    ),
    NO_REVISION: (
        "the revision is not in it",
        "the bundle is older than the deployment: name an older revision, or mend the repository",
    ),
    NOT_ON_DISK: ("its disk did not take it", "look at the disk, and at the kernel's log there"),
    NO_PROGRAM: ("a program is missing there", "the image needs curl, tar, zstd and git"),
}


def _require_whole(source: Source, point: RecoveryPoint) -> None:
    """Raises Damaged when the point is not what its list and its manifest say."""
    from chalicelib.recover.folder.restore import verify_files

    check = verify_files(source.store, point, clock=build.clock())
    if not check.ok:
        raise Damaged(check.found, code="files-damaged", hint="another copy is used")
