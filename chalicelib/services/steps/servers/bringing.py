"""The steps that bring home what lies on the server of the site that took over.

Not from its backups, which are older: from the server itself, once nothing writes there. Both
servers are asked afterwards what they hold. Files go through the backup bucket, by an address that
lets its bearer write one object for some minutes, as a server needs nothing of Leeward's.
"""

from __future__ import annotations

from typing import Any

from chalicelib.adapters.s3.links import sign_download, sign_upload
from chalicelib.errors import CheckFailed, Unavailable
from chalicelib.evidence.entries import proven
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Files, Redis
from chalicelib.plan.records import CheckResult, Proof
from chalicelib.ports.servers import Commands, Ran, ServerFacts
from chalicelib.recover.sites.host_scripts import (
    NO_DOWNLOAD,
    NO_PROGRAM,
    NO_UPLOAD,
    NOT_ON_DISK,
    NOT_UNPACKED,
    PATH_MISSING,
    TOO_LARGE,
    WRONG_DIGEST,
    Download,
    place_files,
    send_files,
    tell_contents,
)
from chalicelib.services import build
from chalicelib.services.jobs.taking import roots_of
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say
from chalicelib.services.steps.servers.host_restores import (
    RESTORE_SECONDS,
    TRANSIT,
    key_of,
    move_secret,
    place_of,
    redis_url,
    require_empty_at_first,
    sign_object,
)
from chalicelib.services.steps.servers.launch import commands_of, named_server, server_of
from chalicelib.services.steps.sources import END

Outputs = dict[str, Any]

# Of the step's 900 s, each of packing, placing and counting.
PACK_SECONDS = RESTORE_SECONDS / 2


def bring_files_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Folders of the other server, put in their place on the one at home, and compared.

    Raises:
        Unavailable: code "transfer-failed", which is tried again.
        CheckFailed: code "files-differ", "not-brought".
    """
    place, component = place_of(run, inputs), str(inputs["component"])
    found: Files = build.locations().component(place.component)
    there, commands = _other(run, inputs)
    root = str(roots_of(found.paths)[0])
    upload, download = _through_bucket(run)
    sent = _lines(
        commands.run(
            there.id,
            send_files(key_of(run), upload, root, found.paths),
            name=f"{key_of(run)}/send",
            limit_seconds=PACK_SECONDS,
        ),
        there,
    )
    archive, contents, count = sent[-3:]
    placed = place.commands.run(
        place.server.id,
        place_files(key_of(run), Download(download, archive), root, found.paths)
        + "\n"
        + tell_contents(found.paths),
        name=f"{key_of(run)}/place",
        limit_seconds=PACK_SECONDS,
    )
    if _lines(placed, place.server)[-2:] != [contents, count]:
        raise CheckFailed(
            f"expected the same files of {component} on {there.id} and {place.server.id}, found"
            " others",
            code="files-differ",
            hint="nothing serves at home yet; does anything still write to them? start again",
        )
    told = f"{count} files, the same digest on {there.id} and {place.server.id}"
    _say_equal(run, component, "files-equal", told)
    return {"found": f"{component}: {told}", "instance": place.server.id, "files": int(count)}


def bring_cache_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """The keys of the other server's Redis, written into the one at home, and looked for there.

    Raises as `copy_redis`.
    """
    from chalicelib.adapters.redis.source import RedisServer
    from chalicelib.recover.restore_redis import copy_redis

    place, component = place_of(run, inputs), str(inputs["component"])
    found: Redis = build.locations().component(place.component)
    there, _ = _other(run, inputs)
    url = redis_url(found, place.server.address)
    with RedisServer(redis_url(found, there.address)) as source, RedisServer(url) as target:
        require_empty_at_first(run, component, target)
        copied = copy_redis(source, target)
        told = f"{copied.keys} keys, each of {source.name} was found in {target.name}"
    moved = move_secret(run, found, url, build.addresses_of(found))
    _say_equal(run, component, "keys-equal", told)
    return {
        "found": f"{component}: {told}{moved}",
        "instance": place.server.id,
        "keys": copied.keys,
    }


def _other(run: Run, inputs: dict[str, Any]) -> tuple[ServerFacts, Commands]:
    """The server that took over, by the plan's name of it."""
    name = acting_on(run, str(inputs["from"]))
    return named_server(name), commands_of(server_of(name))


def _through_bucket(run: Run) -> tuple[str, str]:
    """(address to write to, address to read from) of one object of the backup bucket."""
    key = f"{TRANSIT}/{run.run_id}/{run.step}.tar.zst"
    return sign_object(sign_upload, key), sign_object(sign_download, key)


def _lines(ran: Ran, server: ServerFacts) -> list[str]:
    if ran.status == 0:
        return ran.output.split()
    told = (
        f"{_FAILURES.get(ran.status, 'a command failed')} (status {ran.status}): "
        + ((ran.errors or ran.output).strip()[-300:])
    )
    if ran.status in (NO_UPLOAD, NO_DOWNLOAD, WRONG_DIGEST):
        raise Unavailable(
            f"expected {server.id} to send or fetch an archive, {told}",
            hint="does the server reach S3? it is tried again",
            code="transfer-failed",
        )
    raise CheckFailed(
        f"expected {server.id} to do its part, {told}",
        hint="nothing serves at home yet; mend it, and start the way back again",
        code="not-brought",
    )


_FAILURES = {
    NO_UPLOAD: "it could not be written",
    NO_DOWNLOAD: "it could not be read",
    WRONG_DIGEST: "it is not what was sent",
    NOT_UNPACKED: "it could not be unpacked; is there room?",
    PATH_MISSING: "a path of the plan does not exist",
    TOO_LARGE: "more than 5 GiB are one object too much: copy it by hand",
    NOT_ON_DISK: "its disk did not take it",
    NO_PROGRAM: "a program is missing; the image needs curl, tar, zstd and find",
}


def _say_equal(run: Run, component: str, check: str, found: str) -> None:
    say(
        run,
        proven(
            Proof(
                component=component,
                point_id="",
                proven_at=build.clock().now(),
                target=END,
                recovered_lsn=0,
                last_commit_at=None,
                checks=(CheckResult(check, True, found),),
            )
        ),
    )
