"""The step that puts the code on a server, at the revision that was deployed."""

from __future__ import annotations

from typing import Any

from chalicelib.errors import CheckFailed, LeewardError
from chalicelib.evidence.entries import decision
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Files, Git
from chalicelib.plan.records import RecoveryPoint
from chalicelib.recover.database.archive import read_verified
from chalicelib.recover.folder.stream import FilesStream
from chalicelib.recover.sites.host_scripts import clone_bundle, clone_repository, tell_revision
from chalicelib.services import build
from chalicelib.services.jobs.taking import roots_of
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say
from chalicelib.services.steps.servers.host_restores import (
    Place,
    download_of,
    key_of,
    place_of,
    require_done,
    run_script,
    say_chosen,
)
from chalicelib.services.steps.servers.launch import commands_of, named_server, server_of
from chalicelib.services.steps.sources import Source, use_best

Outputs = dict[str, Any]

BUNDLE = "repository.bundle"
ASK_SECONDS = 20.0
REVISION_BYTES = 200


def code_restore_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """The code at the deployed revision: cloned from its repository, or from the newest bundle."""
    place, component = place_of(run, inputs), str(inputs["component"])
    found: Git = build.locations().component(place.component)
    folder, url = str(inputs["folder"]), found.repository or ""
    revision, known_by = _deployed_revision(run, place, inputs, folder)
    ran = run_script(run, place, clone_repository(key_of(run), url, folder, revision or "HEAD"))
    if ran.status == 0:
        commit, origin = ran.output.split()[-1], url
    else:
        why = f"{url} did not give it (status {ran.status}): {ran.errors.strip()[-200:]}"
        commit, origin = _from_bundle(run, place, component, folder, revision, url, why)
    return {
        "found": f"{folder} on {place.server.id} has {commit[:12]} ({known_by}) from {origin}",
        "instance": place.server.id,
        "revision": commit,
        "source": origin,
    }


def _from_bundle(
    run: Run, place: Place, component: str, folder: str, revision: str, url: str, why: str
) -> tuple[str, str]:
    """(commit, point id)"""
    say(run, decision(what=f"take {component} from a bundle", why=why))

    def use(source: Source, point: RecoveryPoint) -> str:
        download = download_of(run, source, component, point, BUNDLE)
        script = clone_bundle(key_of(run), download, folder, revision or "HEAD", url)
        ran = run_script(run, place, script, about=f"{source.location}/{point.id}")
        require_done(ran, point, lambda: _require_whole(source, point))
        return ran.output.split()[-1]

    source, point, commit = use_best(run, component, "bundle", use)
    say_chosen(run, component, source, point)
    return commit, point.id


def _deployed_revision(
    run: Run, place: Place, inputs: dict[str, Any], folder: str
) -> tuple[str, str]:
    """(revision, how it is known): what the server says that is named as `like`, else the replaced
    one, else what the configuration's newest point says, else "", which is the newest commit of the
    default branch."""
    if like := str(inputs.get("like") or ""):
        return _revision_on(run, like, folder), f"as on {like}"
    if said := _asked_revision(run, place, folder):
        return said, "as it was on the server before"
    file, configuration = str(inputs.get("revision_file") or ""), inputs.get("configuration")
    if file and configuration:
        said = _stored_revision(run, str(configuration), file)
        if said:
            return said, f"as {file} says in the newest copy of {configuration}"
    return "", "the newest commit, as nobody knows which was deployed"


def _asked_revision(run: Run, place: Place, folder: str) -> str:
    """The checked-out commit of the server that is replaced; "" when it does not answer."""
    kept = build.state().get(f"run#{run.run_id}", f"server#{place.server_component}") or {}
    old = kept.get("replaces", "")
    try:
        if not old or not place.commands.is_online(old):
            return ""
        ran = place.commands.run(
            old, tell_revision(folder), name=f"{key_of(run)}/ask", limit_seconds=ASK_SECONDS
        )
    except LeewardError:
        return ""
    return ran.output.strip() if ran.status == 0 else ""


def _revision_on(run: Run, component: str, folder: str) -> str:
    """The checked-out commit of the server of the plan's name. Raises CheckFailed."""
    name = acting_on(run, component)
    commands, server = commands_of(server_of(name)), named_server(name)
    ran = commands.run(
        server.id, tell_revision(folder), name=f"{key_of(run)}/like", limit_seconds=ASK_SECONDS
    )
    if ran.status:
        raise CheckFailed(
            f"expected a checked-out commit in {folder} on {server.id}, found status {ran.status}: "
            f"{ran.errors.strip()[-200:]}",
            code="no-revision",
            hint="name the folder that its services run from",
        )
    return ran.output.strip()


def _stored_revision(run: Run, component: str, file: str) -> str:
    """What a small file holds in the newest whole point of a folder; "" when it is not in it."""
    found: Files = build.locations().component(component)
    root, _ = roots_of(found.paths)
    wanted = file[len(str(root)) :].lstrip("/")

    def use(source: Source, point: RecoveryPoint) -> str:
        text = b""
        for member in FilesStream(source.store, point):
            if member.entry.path == wanted:
                text = b"".join(member.content)[:REVISION_BYTES]
        return text.decode(errors="replace").strip()

    return use_best(run, component, "archive", use)[2]


def _require_whole(source: Source, point: RecoveryPoint) -> None:
    """Raises Damaged when the bundle is not what the manifest says."""
    stored = next(it for it in point.objects if it.key.endswith(f"/{BUNDLE}"))
    for _ in read_verified(source.store, stored):
        pass
