"""A git repository as a bundle of every ref, which `git clone` takes as it is.

The bundle is not packed once more: what git sends is compressed. Order: bundle, refs, manifest.
"""

from __future__ import annotations

from chalicelib.backup.point_objects import PointObjects, free_point_id
from chalicelib.plan.bundles import BUNDLE_NAME, FACTS_NAME, RepositoryFacts
from chalicelib.plan.records import RecoveryPoint
from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.ports.sources import Repository

NAMED = 5


def take_git(
    repository: Repository,
    store: ObjectStore,
    catalogue: Catalogue,
    *,
    component: str,
    clock: Clock,
) -> RecoveryPoint:
    """Take one recovery point of a repository and enter it into the catalogue.

    All refs and all that they lead to are in it. Submodules and large files (LFS) lie elsewhere
    and are not, which the note says; neither are hooks, configuration and what no ref leads to.

    Args:
        store: the component's own objects.
    Raises:
        NotReady, Unavailable: as Repository; nothing stays.
    """
    taken_at = clock.now()
    with (
        repository.mirror() as mirror,
        PointObjects(store, free_point_id(store, clock, "bundle")) as objects,
    ):
        facts = mirror.facts()
        writer = objects.open(BUNDLE_NAME)
        for piece in mirror.bundle():
            writer.write(piece)
        objects.commit(writer)
        objects.put_json(FACTS_NAME, facts.to_json())
        point = RecoveryPoint(
            id=objects.point_id,
            component=component,
            kind="bundle",
            taken_at=taken_at,
            finished_at=clock.now(),
            objects=objects.stored,
            source_bytes=objects.stored[0].size_bytes,
            encryption=store.encryption,
            note=_note(facts),
        )
        catalogue.add(point)
    return point


def _note(facts: RepositoryFacts) -> str:
    said = []
    if facts.submodules:
        shown = ", ".join(facts.submodules[:NAMED])
        said.append(f"{len(facts.submodules)} submodules are not in it: {shown}")
    if facts.uses_lfs:
        said.append("large files (LFS) are not in it, only their pointers")
    if not facts.head:
        said.append("HEAD names no commit")
    return "; ".join(said)
