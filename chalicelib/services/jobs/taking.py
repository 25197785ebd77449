"""Recovery points of what is no database: folders, key-value stores, repositories.

Where each can be reached decides where this runs: a function in the VPC for Redis, the host itself
for its folders and its git (`leeward take`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chalicelib.errors import NotReady
from chalicelib.plan.components import BaseComponent, Files, Git, Redis
from chalicelib.plan.records import CheckResult, Proof, RecoveryPoint, RecoveryTarget
from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.services import build

Secret = Callable[[str], Mapping[str, Any]]
END = RecoveryTarget("end", "")


def take(component: str, kind: str) -> dict[str, Any]:
    """Take a point of a component that a function can reach. Publishes `Taken.<kind>`."""
    places = build.locations()
    point = take_point(
        component,
        places.component(component),
        places.store(places.primary, component),
        places.catalogue(places.primary, component),
        clock=build.clock(),
        secret=places.secret,
    )
    build.metrics().put(component, {f"Taken.{kind}": 1.0})
    note = f" ({point.note})" if point.note else ""
    return {"point": point.id, "found": f"{point.id}, {point.stored_bytes} bytes stored{note}"}


def take_point(
    name: str,
    component: BaseComponent,
    store: ObjectStore,
    catalogue: Catalogue,
    *,
    clock: Clock,
    secret: Secret,
    progress: Callable[[int], None] = lambda size_bytes: None,
) -> RecoveryPoint:
    """Take one recovery point of a component of kind files, redis or git.

    Raises:
        Refused: code "retired".
        NotReady: code "nothing-to-take", when the plan does not say what, or it is of another
            kind; what each kind's own function raises.
    """
    build.require_live(name, component)
    if isinstance(component, Files) and component.paths:
        from chalicelib.adapters.folder.tree import FolderTree
        from chalicelib.backup.take_files import take_files
        from chalicelib.plan.files import Selection

        root, include = roots_of(component.paths)
        selection = Selection(include=include, exclude=component.exclude)
        return take_files(
            FolderTree(root), store, catalogue, component=name, clock=clock,
            selection=selection, required=_required(component.paths, include), progress=progress,
        )  # fmt: skip
    if isinstance(component, Redis) and component.secret:
        from chalicelib.adapters.redis.source import RedisServer
        from chalicelib.backup.take_redis import take_redis

        with RedisServer(str(secret(component.secret)["url"])) as server:
            return take_redis(server, store, catalogue, component=name, clock=clock)
    if isinstance(component, Git) and component.repository:
        from chalicelib.adapters.git.repository import GitRepository
        from chalicelib.backup.take_git import take_git

        repository = GitRepository(component.repository, inherited=os.environ)
        return take_git(repository, store, catalogue, component=name, clock=clock)
    raise NotReady(
        f"expected the plan to say what to take of {name}, found nothing for its kind",
        hint="files need `paths`, redis a `secret`, git a `repository`; databases have schedules",
        code="nothing-to-take",
    )


def source_of(component: BaseComponent, secret: Secret) -> str:
    """Where `take_point` reads from, in words and without a password; nothing is asked there.

    Raises as `secret`; BadInput: code "bad-redis-url", "bad-git-url".
    """
    if isinstance(component, Redis) and component.secret:
        from chalicelib.adapters.redis.source import RedisServer

        with RedisServer(str(secret(component.secret)["url"])) as server:
            return server.name
    if isinstance(component, Git) and component.repository:
        from chalicelib.adapters.git.repository import GitRepository

        return GitRepository(component.repository).name
    return ", ".join(component.paths) if isinstance(component, Files) else ""


def roots_of(paths: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
    """("/var/www/a", "/var/log/a") -> /var and what lies below it.

    Looks at no disk: who restores works elsewhere, and must find the same.
    """
    if paths == ("/",):
        return Path("/"), ()
    root = os.path.commonpath([os.path.dirname(path.rstrip("/")) for path in paths])
    # The slash in front binds a name to the root: without one it would be taken at any depth.
    return Path(root), tuple(f"/{os.path.relpath(path, root)}" for path in paths)


def _required(paths: tuple[str, ...], include: tuple[str, ...]) -> tuple[str, ...]:
    """All but the symlinks to what is taken besides: of those the link itself is enough."""
    taken = [Path(os.path.realpath(path)) for path in paths if not os.path.islink(path)]
    return tuple(
        name
        for path, name in zip(paths, include, strict=False)
        if not (os.path.islink(path) and _lies_in_one(Path(os.path.realpath(path)), taken))
    )


def _lies_in_one(path: Path, folders: list[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def prove_point(
    component: BaseComponent,
    point: RecoveryPoint,
    store: ObjectStore,
    *,
    clock: Clock,
    redis_program: str = "",
) -> Proof:
    """Read all of a point, restore it into something that is thrown away, and look inside."""
    return Proof(
        component=point.component,
        point_id=point.id,
        proven_at=clock.now(),
        target=END,
        recovered_lsn=0,
        last_commit_at=None,
        checks=_checks(component, point, store, clock, redis_program),
    )


def _checks(
    component: BaseComponent,
    point: RecoveryPoint,
    store: ObjectStore,
    clock: Clock,
    redis_program: str,
) -> tuple[CheckResult, ...]:
    if isinstance(component, Files):
        from chalicelib.recover.folder.restore import verify_files

        return (verify_files(store, point, clock=clock),)
    if isinstance(component, Redis):
        from chalicelib.adapters.redis.throwaway import ThrowawayRedis
        from chalicelib.recover.restore_redis import verify_redis

        return verify_redis(store, point, ThrowawayRedis(redis_program), clock=clock)
    from chalicelib.adapters.git.bundle import GitBundles
    from chalicelib.recover.restore_git import verify_git

    return verify_git(store, point, GitBundles(), clock=clock)
