"""What is protected: databases, buckets, caches, files, code, services, names; and how."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import date, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from chalicelib.plan.base import Name, PlanPart, Text
from chalicelib.plan.rooms import Where
from chalicelib.plan.schedule import Schedule
from chalicelib.plan.units import Duration, Quantity, Rate, Share, Size, known_zone

BackupKind = Literal["full", "incremental", "wal", "dump", "sync", "replication", "commits"]


class Backup(PlanPart):
    """One way in which a component is copied.

    kind: full and incremental are physical base backups, wal the transaction log, dump a logical
    export, sync a periodic copy of files or objects, replication a continuous one, commits a
    version control repository. `when` is absent for the continuous kinds alone.
    takes: how long one run lasts. `copied_within`: from its end until every location has it.
    """

    kind: BackupKind
    says: Text | None = None
    when: Schedule | None = None
    takes: Duration | None = None
    copied_within: Duration | None = None
    to: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _has_a_schedule(self) -> Backup:
        if self.when is None and self.kind not in ("replication", "commits"):
            raise ValueError(f"expected `when`: a backup of kind {self.kind} runs on a schedule")
        return self


class Retention(PlanPart):
    """How long copies are kept: `all` for a plain period, or counts per calendar period (GFS).

    logs: how long the transaction log is kept, which bounds point-in-time recovery.
    versions: how long a version of a bucket's replica stays after it was replaced or deleted, when
    no inventory names it; None keeps every version for ever.
    time_zone: whose days, weeks (ISO 8601), months and years are counted.
    """

    all: Duration | None = None
    daily: Annotated[int, Field(ge=0)] = 0
    weekly: Annotated[int, Field(ge=0)] = 0
    monthly: Annotated[int, Field(ge=0)] = 0
    yearly: Annotated[int, Field(ge=0)] = 0
    logs: Duration | None = None
    versions: Duration | None = None
    time_zone: Annotated[str, AfterValidator(known_zone)] = "UTC"

    @property
    def is_gfs(self) -> bool:
        return bool(self.daily or self.weekly or self.monthly or self.yearly)


# A path is part of an ARN and not of a name: IAM's API takes the name alone.
Identity = Annotated[str, Field(pattern=r"^(user|role)/[\w+=,.@-]{1,64}$")]


class BaseComponent(PlanPart):
    """What all kinds of component have.

    site: where it runs. system and data: its classes in `objectives`. size: of the data.
    stand_ins: by site, and under "drill": the component on which a run acts in its place, when it
    recovers at that site, or as a drill. on: the server that it lies on.
    identities: the IAM users and roles that act on it or for it, "user/NAME" or "role/NAME":
    isolation disables their keys and revokes their sessions.
    restores_at: measured or estimated speed of a restore.
    retired: since when it no longer exists. Its copies stay as its retention says, in the locations
    of its backups, checked, pruned and, but for a database's, tested; nothing takes or watches it.
    """

    says: Text | None = None
    retired: date | None = None
    site: Name | None = None
    system: Name | None = None
    data: Name | None = None
    depends_on: tuple[Name, ...] = ()
    stand_ins: dict[Name, Name] = {}
    on: Name | None = None
    identities: tuple[Identity, ...] = ()
    size: Size | None = None
    restores_at: Rate | None = None
    backups: tuple[Backup, ...] = ()
    retention: Retention | None = None

    @model_validator(mode="after")
    def _is_kept(self) -> Self:
        if self.retired and not (self.backups and self.retention):
            raise ValueError(
                "expected `backups` and `retention`: where the copies of what is retired lie, and "
                "how long they stay"
            )
        return self


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_COMPARISON = re.compile(r"\s*(==|!=|<=|>=|<|>)\s*(-?\d+(?:\.\d+)?)\s*")
_BAND = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*\.\.\s*(-?\d+(?:\.\d+)?)\s*")


def _check_expectation(text: str) -> str:
    if not (_COMPARISON.fullmatch(text) or _BAND.fullmatch(text)):
        raise ValueError('expected a comparison such as "> 0", or a band such as "100..200"')
    return text


class Assertion(PlanPart):
    """A named SQL probe of one value.

    expect: a comparison (`> 0`, `>= 10`, `== 3`, `!= 0`, `< 5`) or a band, ends included
    (`100..200`).
    """

    name: Name
    sql: Text
    expect: Annotated[str, AfterValidator(_check_expectation)]

    def holds(self, value: float) -> bool:
        """Whether the probe's value is what the plan expects."""
        if band := _BAND.fullmatch(self.expect):
            return float(band[1]) <= value <= float(band[2])
        comparison = _COMPARISON.fullmatch(self.expect)
        assert comparison is not None
        return _COMPARISONS[comparison[1]](value, float(comparison[2]))


class Freshness(PlanPart):
    """The newest value of a timestamp column may be at most `max_age` old."""

    table: Text
    column: Text
    max_age: Duration


class DatabaseChecks(PlanPart):
    """What must hold for a PostgreSQL database to count as sound."""

    assertions: tuple[Assertion, ...] = ()
    freshness: tuple[Freshness, ...] = ()
    amcheck: bool = True
    page_checksums: bool = True
    schema_digest: bool = True


DamageKind = Literal["drop", "truncate", "rewrite", "mass-delete", "mass-update"]


class ExpectedChange(PlanPart):
    """What the application's own jobs do to tables, as a nightly drop of the oldest partition.

    tables: patterns as a shell has them, of a table's name with or without its schema.
    rows: at most so many of a table at once; more is not expected. None: however many.
    """

    tables: Annotated[tuple[Text, ...], Field(min_length=1)]
    kinds: Annotated[tuple[DamageKind, ...], Field(min_length=1)]
    rows: Annotated[int, Field(ge=1)] | None = None

    def covers(self, kind: str, table: str, rows: int = 1) -> bool:
        """Args: table: with its schema, as `public.events_2026_01`. rows: that it concerns."""
        names = (table, table.partition(".")[2])
        few = self.rows is None or rows <= self.rows
        return (
            few
            and kind in self.kinds
            and any(fnmatchcase(name, pattern) for name in names for pattern in self.tables)
        )


class DamageThresholds(PlanPart):
    """When a transaction is suspicious: it changed or removed at least `rows` rows, and at least
    `times_usual` times as many as its neighbours, or it removed a table or all of its rows.

    expected: what wakes nobody and starts no recovery; a person may still name it as the damage.
    """

    rows: Annotated[int, Field(ge=1)] = 1000
    times_usual: Annotated[float, Field(ge=1)] = 20.0
    expected: tuple[ExpectedChange, ...] = ()


class Postgres(BaseComponent):
    """A PostgreSQL database.

    operator_secret: Leeward's login. application_secret: what the application reads; a switch
    rewrites it. application_role: the role that is fenced. runs_in: where the long steps of its
    recovery run, when not where they fit.
    """

    kind: Literal["postgres"]
    database: Text
    operator_secret: Text
    application_secret: Text
    application_role: Text
    checks: DatabaseChecks = DatabaseChecks()
    damage: DamageThresholds = DamageThresholds()
    runs_in: Where | None = None


class Bucket(BaseComponent):
    """Objects in a store.

    mirror: deletions are copied too, though never more than `deletes_at_most` of the copy's
    objects in one run without approval. erases_at_most: the application itself removes versions
    for good; of no more than this share of its objects between two inventories, nobody is told.
    health: the address that says whether its objects are served; health_says: what a good answer
    contains.
    """

    kind: Literal["bucket"]
    bucket: Text
    mirror: bool = False
    deletes_at_most: Share = 0.05
    erases_at_most: Share = 0.0
    recovery_bucket: Text | None = None
    health: Text | None = None
    health_says: Text | None = None

    @property
    def is_in_step(self) -> bool:
        """Whether it has a replica. What the plan copies once a day or all the time, both are
        events and a nightly sync."""
        return any(it.kind in ("replication", "sync") for it in self.backups)


class Redis(BaseComponent):
    """A Redis instance. secret: where its address is kept, with its password."""

    kind: Literal["redis"]
    secret: Text | None = None


def _check_path(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError("expected a path that begins with `/` and has no `..` in it")
    return path


class Files(BaseComponent):
    """Folders of a server. exclude: patterns of what is not copied."""

    kind: Literal["files"]
    paths: tuple[Annotated[Text, AfterValidator(_check_path)], ...] = ()
    exclude: tuple[Text, ...] = ()


class Git(BaseComponent):
    """A repository: code or configuration under version control."""

    kind: Literal["git"]
    repository: Text | None = None


class Cluster(PlanPart):
    """A Kubernetes cluster. endpoint and ca (PEM) are kept here, as asking EKS for them needs its
    control plane."""

    name: Text
    endpoint: Text
    ca: Text | None = None
    namespace: Text = "default"


class Service(BaseComponent):
    """Application servers: a Kubernetes deployment or systemd units of the server it is `on`.

    health: the address that says whether it serves; health_says: what a good answer contains.
    manifests: objects to apply, an S3 address. container: of the deployment's pods, when they have
    several.
    """

    kind: Literal["service"]
    deployment: Text | None = None
    container: Text | None = None
    replicas: Annotated[int, Field(ge=0)] | None = None
    cluster: Cluster | None = None
    manifests: Text | None = None
    units: tuple[Text, ...] = ()
    health: Text | None = None
    health_says: Text | None = None


class Server(BaseComponent):
    """A server in EC2, replaced by launching its template.

    instance: value of its tag `Name`, by which it is found. launch_template: its name, with
    ":version" or else its default version. role: of its instance profile, which a launch lends it.
    quarantine_group: the security group that lets nothing in or out. target_group: an ARN.
    settings: variables of the units on it, over what their own files say; no secrets.
    """

    kind: Literal["server"]
    region: Text | None = None
    instance: Text
    launch_template: Text | None = None
    role: Text | None = None
    security_groups: tuple[Text, ...] = ()
    quarantine_group: Text | None = None
    target_group: Text | None = None
    settings: dict[Text, Text] = {}


class Infrastructure(BaseComponent):
    """What Terraform makes, through a CodeBuild project. variables: passed as `-var`.

    The variable `environment` names Terraform's workspace. outputs: an S3 address below which the
    project's builds may write what `terraform output -json` says.
    """

    kind: Literal["infrastructure"]
    region: Text | None = None
    project: Text
    variables: dict[str, str] = {}
    outputs: Text | None = None


class NameRecord(PlanPart):
    """A DNS name and what it answers for each site. ttl: seconds."""

    name: Text
    type: Literal["A", "AAAA", "CNAME"] = "A"
    ttl: Annotated[int, Field(ge=0)] = 60
    answers: dict[Name, tuple[Text, ...]]


class Names(BaseComponent):
    """DNS names and what moves them.

    provider "route53": its control plane, which changes records, runs in us-east-1 alone.
    failover: how names move: by changing records (control plane) or by a health check or routing
    control that was set up beforehand (data plane). routing_controls: ARN by site.
    routing_endpoints: the cluster's endpoint by region, kept here because asking for them needs
    ARC's control plane. target_group: ARN; targets: by site, instance ids or addresses.
    stays_for: how long after a switch another one needs a person's reason.
    """

    kind: Literal["names"]
    zone: Text
    provider: Literal["route53", "other"]
    failover: Literal["change-records", "health-check", "routing-control", "load-balancer"]
    hosted_zone: Text | None = None
    records: tuple[NameRecord, ...] = ()
    routing_controls: dict[Name, Text] = {}
    routing_endpoints: dict[Text, Text] = {}
    target_group: Text | None = None
    targets: dict[Name, tuple[Text, ...]] = {}
    stays_for: Duration = timedelta(minutes=30)


class Cdn(BaseComponent):
    """A content delivery network and what it serves."""

    kind: Literal["cdn"]


Component = Annotated[
    Postgres | Bucket | Redis | Files | Git | Service | Server | Infrastructure | Names | Cdn,
    Field(discriminator="kind"),
]


class Threshold(PlanPart):
    """When a metric raises an alarm, and who hears of it.

    above: absent when any occurrence counts ("backup failure: immediate").
    """

    metric: Text
    above: Quantity | None = None
    level: Literal["warning", "critical", "emergency", "immediate"]
    notify: tuple[Name, ...] = ()


class Objective(PlanPart):
    """What is promised for one class of systems (`rto`) or of data (`rpo`)."""

    says: Text
    rto: Duration | None = None
    rpo: Duration | None = None


class Objectives(PlanPart):
    """Recovery objectives: for everything, and for the classes that have their own."""

    rto: Duration | None = None
    rpo: Duration | None = None
    uptime: Share | None = None
    systems: dict[Name, Objective] = {}
    data: dict[Name, Objective] = {}
