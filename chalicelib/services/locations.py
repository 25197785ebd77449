"""The locations of the plan, opened: where the copies of a component lie, and which to use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from chalicelib.errors import BadInput, LeewardError, NotReady, Throttled, Unavailable
from chalicelib.plan.losses import lost_locations
from chalicelib.plan.manifest import POINTS
from chalicelib.recover.choose_copy import Candidate
from chalicelib.services import build

if TYPE_CHECKING:
    from chalicelib.adapters.sealing.key_sets import Opener
    from chalicelib.plan.model import Plan
    from chalicelib.plan.places import Location
    from chalicelib.ports import Catalogue, ObjectStore

Login = Mapping[str, Any]
Copy = tuple[str, str]
"""A component, and the location where its copy lies."""
SAME_REGION, SAME_PROVIDER, ELSEWHERE = range(3)
# A location in another part of the world answers in less.
TELL_AFTER_SECONDS = 3.0
T = TypeVar("T")


@dataclass
class Locations:
    """Opens what it is asked for, once. `login`: what the secret of a location holds.

    `private_keys`: offline keys, tried when no KMS key opens a copy, or at once when there is
    no deployment to ask (`deployed` False): then the primary location is out of reach too.
    `unwritten`: what is written to a location is kept nowhere, nor in the index.
    `tell`: hears which locations are waited for, when that takes long.
    """

    plan: Plan
    login: Callable[[str], Login]
    private_keys: tuple[Opener, ...] = ()
    deployed: bool = True
    unwritten: bool = False
    tell: Callable[[str], None] = lambda text: None
    _stores: dict[Copy, ObjectStore] = field(default_factory=dict)
    _silent: dict[str, LeewardError] = field(default_factory=dict)

    def of(self, component: str) -> tuple[str, ...]:
        """The locations that hold copies of a component, the primary one first."""
        named = {name for backup in self.component(component).backups for name in backup.to}
        primary = self.primary
        others = [name for name in self.plan.locations if name in named and name != primary]
        return (primary, *others)

    @cached_property
    def primary(self) -> str:
        """The location that backups are taken to. Raises NotReady (code "no-primary-location")."""
        for name, location in self.plan.locations.items():
            if location.provider == "aws" and location.role in ("primary", "remote"):
                return name
        raise NotReady(
            "expected a location in AWS with the role primary or remote, found none in the plan",
            hint="name the location that backups are taken to",
            code="no-primary-location",
        )

    def secret(self, name: str) -> Login:
        """What Secrets Manager holds under a name; without a deployment, what a file says that
        was named for it."""
        return read_secret(name) if self.deployed else self.login(name)

    def store(self, location: str, component: str) -> ObjectStore:
        """Raises BadInput (code "unknown-location"), NotReady (code "no-credentials", ...), and
        what a location said that `find_silent` found."""
        if location in self._silent:
            raise self._silent[location]
        key = (component, location)
        if key not in self._stores:
            self._stores[key] = self._open(location, component)
        return self._stores[key]

    def catalogue(
        self,
        location: str,
        component: str,
        *,
        quarantined: Mapping[str, str] | None = None,
        held: Mapping[str, str] | None = None,
    ) -> Catalogue:
        """With the index beside it in the primary location, which it is about.

        Args:
            quarantined, held: point id -> why, as the primary location says: it counts everywhere.
        """
        from chalicelib.adapters.catalogue import StoredCatalogue

        if location == self.primary and self.deployed and not self.unwritten:
            return build.catalogue(component)
        store = self.store(location, component)
        return StoredCatalogue(store, component, quarantined=quarantined, held=held)

    def indexed(self, location: str, component: str) -> Catalogue:
        """As `catalogue`, with the index beside any location: for those who compare the copies,
        and who quarantine a point only when no location has it sound."""
        from chalicelib.adapters.catalogue import StoredCatalogue

        index = build.state() if self.deployed and not self.unwritten else None
        return StoredCatalogue(self.store(location, component), component, index=index)

    def lost_with(self, sites: Iterable[str]) -> frozenset[str]:
        """The locations that are in the region, or at the own servers, of one of these sites."""
        return lost_locations(self.plan, sites)

    def candidates(
        self, component: str, *, in_region: str = "", without: frozenset[str] = frozenset()
    ) -> tuple[Candidate, ...]:
        """What each location answers, asked side by side; `in_region`: where to restore;
        `without`: those that are not to be asked."""
        names = [name for name in self.of(component) if name not in without]
        return tuple(self._side_by_side(names, lambda it: self.ask(it, component, in_region)))

    def find_silent(self, copies: Iterable[Copy]) -> None:
        """Ask each location of these once, side by side.

        One that does not answer is not asked again, as every copy in it would be waited for as
        long: it stays unknown, and what it said is raised by `store`.
        """
        firsts = {location: component for component, location in reversed(list(copies))}
        self._side_by_side(list(firsts), lambda name: self._look_in(name, firsts[name]))

    def _look_in(self, name: str, component: str) -> None:
        try:
            next(iter(self.store(name, component).list(POINTS)), None)
        except Throttled:
            return  # it is there
        except Unavailable as error:
            self._silent[name] = error
        except LeewardError:
            return  # said again to whoever opens a copy there

    def _side_by_side(self, names: list[str], ask: Callable[[str], T]) -> list[T]:
        with ThreadPoolExecutor(max(len(names), 1)) as threads:
            asked = {name: threads.submit(ask, name) for name in names}
            slow = wait(asked.values(), TELL_AFTER_SECONDS).not_done
            if slow:
                late = ", ".join(name for name, it in asked.items() if it in slow)
                self.tell(f"no answer yet from {late}: it is given up after 5 minutes at most")
            return [it.result() for it in asked.values()]

    def ask(self, name: str, component: str, in_region: str = "") -> Candidate:
        """What one location answers; that it does not is an answer too."""
        distance, primary = self._distance(name, in_region), name == self.primary
        try:
            catalogue = self.catalogue(name, component)
            database = self.component(component).kind == "postgres"
            known = catalogue.inventory() if database else None
            held = known.holdings if known else catalogue.holdings()
            return Candidate(name, distance, held, known, primary=primary)
        except LeewardError as error:
            return Candidate(name, distance, error=error, primary=primary)

    def _distance(self, name: str, in_region: str) -> int:
        location = self.location(name)
        if location.provider != "aws":
            return ELSEWHERE
        here = in_region or self.plan.locations[self.primary].region
        return SAME_REGION if location.region == here else SAME_PROVIDER

    def _open(self, name: str, component: str) -> ObjectStore:
        if name == self.primary and self.deployed:
            return self._as_written(build.backups(component))
        # Below the seal: its keys are asked, and none is stored.
        inner = self._as_written(self.part(name, f"{component}/"))
        return self._sealed(name, component, inner) if self.location(name).is_sealed else inner

    def _as_written(self, store: ObjectStore) -> ObjectStore:
        from chalicelib.adapters.unwritten import UnwrittenStore

        return UnwrittenStore(store) if self.unwritten else store

    def part(self, name: str, prefix: str = "") -> ObjectStore:
        """What lies in a location below a prefix, as it lies there: sealed what is sealed."""
        location = self.location(name)
        if location.provider == "own":
            from chalicelib.adapters.folder.marker import Marker
            from chalicelib.adapters.folder.store import FolderObjectStore

            folder = _folder(name, location)
            marker = Marker(folder, name)
            if self.unwritten and not (folder / prefix).exists():
                marker.require()
            return FolderObjectStore(folder / prefix, marker=marker)
        if location.provider == "aws":
            from chalicelib.adapters.s3.access import reach_s3
            from chalicelib.adapters.s3.store import S3ObjectStore

            here = name == self.primary and self.deployed
            bucket = build.environment().backup_bucket if here else _bucket(name, location)
            return S3ObjectStore(reach_s3(location.region), bucket, prefix)
        login, bucket = self.login(name), _bucket(name, location)
        if location.provider == "gcp":
            from chalicelib.adapters.gcs.access import connect_gcs
            from chalicelib.adapters.gcs.store import GcsObjectStore

            return GcsObjectStore(connect_gcs(login), bucket, prefix)
        from chalicelib.adapters.azure.access import connect_azure
        from chalicelib.adapters.azure.store import AzureObjectStore

        return AzureObjectStore(connect_azure(login), bucket, prefix)

    def _sealed(self, name: str, component: str, inner: ObjectStore) -> ObjectStore:
        from chalicelib.adapters.sealing.key_ring import KeyRing
        from chalicelib.adapters.sealing.offline_keys import OfflinePublicKey
        from chalicelib.adapters.sealing.store import SealedStore

        encryption = self.plan.locations[name].encryption
        pem = encryption.key.public_key if encryption and encryption.key else None
        offline = (OfflinePublicKey(pem.encode()),) if pem else ()
        keys = envelope_keys() if self.deployed else ()
        ring = KeyRing(
            inner,
            f"{name}/{component}",
            clock=build.clock(),
            recipients=(*keys, *offline),
            openers=(*keys, *self.private_keys),
        )
        return SealedStore(inner, ring)

    def location(self, name: str) -> Location:
        """Raises BadInput (code "unknown-location")."""
        if name not in self.plan.locations:
            raise BadInput(
                f"the plan has no location {name!r}",
                hint=f"one of: {', '.join(self.plan.locations)}",
                code="unknown-location",
            )
        return self.plan.locations[name]

    def component(self, name: str) -> Any:
        """Raises BadInput (code "unknown-component")."""
        if name not in self.plan.components:
            raise BadInput(
                f"the plan has no component {name!r}",
                hint=f"one of: {', '.join(self.plan.components)}",
                code="unknown-component",
            )
        return self.plan.components[name]


def envelope_keys() -> tuple[Any, ...]:
    """The KMS key for copies outside AWS, and its replica in the standby region; that of this
    region first, so that nothing asks a lost region while the near one answers."""
    from chalicelib.adapters.sealing.kms_keys import KmsKey, connect_kms, region_of

    here = build.environment()
    nearest_first = sorted(here.envelope_keys, key=lambda arn: region_of(arn) != here.region)
    return tuple(KmsKey(connect_kms(region_of(arn)), arn) for arn in nearest_first)


def read_login(location: Location) -> Login:
    """What Secrets Manager holds for a location.

    Raises NotReady (code "no-credentials") when the plan names no secret or it holds no JSON.
    """
    if location.secret is None:
        raise _no_login("the plan names no secret for it")
    return read_secret(location.secret)


def read_secret(name: str) -> Login:
    """Raises NotReady (code "no-credentials") when there is none or it holds no JSON object."""
    from chalicelib.adapters.aws_errors import mapped

    with mapped("secretsmanager", secret=name):
        answer = build.client("secretsmanager").get_secret_value(SecretId=name)
    try:
        return dict(json.loads(answer["SecretString"]))
    except (KeyError, ValueError, TypeError) as error:
        raise _no_login(f"the secret {name} holds no JSON object") from error


def _no_login(why: str) -> NotReady:
    return NotReady(
        f"expected a login for the location: {why}",
        hint="put the login into Secrets Manager as one JSON object and name it in the plan",
        code="no-credentials",
    )


def _bucket(name: str, location: Location) -> str:
    if location.bucket is None:
        raise NotReady(
            f"expected the plan to name a bucket for location {name}, found none",
            hint="add `bucket` to the location",
            code="no-bucket",
        )
    return location.bucket


def _folder(name: str, location: Location) -> Any:
    from pathlib import Path

    if location.path is None:
        raise NotReady(
            f"expected the plan to name a path for location {name}, found none",
            hint="add `path` to the location",
            code="no-path",
        )
    return Path(location.path)
