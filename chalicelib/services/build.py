"""Adapters, each built once and when first used.

Imports of boto3, psycopg and pydantic stay inside the builders: a Lambda that needs none of them
does not pay for them at its cold start.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput, NotReady, Refused, Unavailable
from chalicelib.services.environment import environment as environment
from chalicelib.services.environment import required, task_network

if TYPE_CHECKING:
    from chalicelib.adapters.fargate import FargateWorkers
    from chalicelib.adapters.http.probe import HttpProber
    from chalicelib.adapters.lambda_functions import LambdaFunctions
    from chalicelib.adapters.postgres.database import PostgresDatabases
    from chalicelib.adapters.postgres.replication import PostgresSource
    from chalicelib.adapters.s3.access import S3Access
    from chalicelib.adapters.s3.batch import S3BatchJobs
    from chalicelib.adapters.s3.bucket import S3Buckets
    from chalicelib.adapters.s3.locks import S3Locks
    from chalicelib.adapters.secrets import SecretAddresses
    from chalicelib.adapters.step_functions import StepFunctions
    from chalicelib.adapters.step_tokens import StepTokens
    from chalicelib.incidents.incident import Desk
    from chalicelib.plan.components import BaseComponent, Postgres, Redis
    from chalicelib.plan.lines import PlanLines
    from chalicelib.plan.model import Plan
    from chalicelib.ports import Catalogue, Clock, Metrics, ObjectStore, Records, Signer, StateStore
    from chalicelib.ports.alarms import Alarms
    from chalicelib.services.locations import Locations

PRIMARY_FUNCTIONS = "leeward-primary-"


@cache
def plan() -> Plan:
    from chalicelib.plan.load import read_plan_json

    return read_plan_json(environment().plan)


@cache
def plan_lines() -> PlanLines | None:
    """Where in its YAML each part of the plan stands; None when that is not known."""
    from chalicelib.plan.lines import read_lines

    return read_lines(environment().plan, plan().plan_sha256)


@cache
def client(service: str, region: str = "") -> Any:
    """A boto3 client in this Lambda's own region, or in another one.

    One try of its own after the first: Step Functions and the schedules retry what stays broken.
    """
    import boto3
    from botocore.config import Config

    from chalicelib.adapters.aws_answers import believing_json_alone

    retries = {"mode": "standard", "total_max_attempts": 4}
    config = Config(retries=retries, connect_timeout=5, read_timeout=60, max_pool_connections=32)
    return believing_json_alone(boto3.client(service, region_name=region or None, config=config))


@cache
def clock() -> Clock:
    from chalicelib.adapters.clock import SystemClock

    return SystemClock()


@cache
def state() -> StateStore:
    from chalicelib.adapters.dynamodb_state import DynamoDbState

    return DynamoDbState(client("dynamodb"), environment().state_table)


@cache
def s3() -> Any:
    """A client that waits longer for a store that is overloaded than the others wait: for what is
    not about objects."""
    from chalicelib.adapters.s3.store import connect_s3

    return connect_s3()


@cache
def objects_s3() -> S3Access:
    """S3 in this Lambda's own region, for objects."""
    from chalicelib.adapters.s3.access import reach_s3

    return reach_s3()


@cache
def backup_s3() -> S3Access:
    """As `objects_s3`, in the region of the backup bucket: another one than the standby stack's."""
    if environment().stack == "primary":
        return objects_s3()
    from chalicelib.adapters.s3.access import reach_s3

    return reach_s3(plan().locations[locations().primary].region)


def backup_key() -> str | None:
    """What encrypts new objects of the backup bucket; None: the key that is the bucket's default,
    as S3 refuses the standby stack's, which is of another region."""
    here = environment()
    return here.data_key if here.stack == "primary" else None


@cache
def evidence_store() -> ObjectStore:
    from chalicelib.adapters.s3.store import S3ObjectStore

    here = environment()
    return S3ObjectStore(objects_s3(), here.evidence_bucket, kms_key_id=here.data_key)


@cache
def records() -> Records:
    from chalicelib.evidence.records import StoredRecords

    return StoredRecords(evidence_store(), clock())


@cache
def signer() -> Signer:
    from chalicelib.adapters.kms_signer import KmsSigner

    return KmsSigner(client("kms"), environment().signing_key)


@cache
def metrics() -> Metrics:
    from chalicelib.adapters.cloudwatch import CloudWatchMetrics

    return CloudWatchMetrics(client("cloudwatch"))


@cache
def alarms() -> Alarms:
    from chalicelib.adapters.cloudwatch import CloudWatchAlarms

    return CloudWatchAlarms(client("cloudwatch"), environment().machine_prefix)


@cache
def desk() -> Desk:
    from chalicelib.incidents.incident import Desk

    return Desk(state(), records(), workflows(), clock())


@cache
def workflows() -> StepFunctions:
    from chalicelib.adapters.step_functions import StepFunctions

    return StepFunctions(lambda: client("stepfunctions"), environment().machine_prefix)


@cache
def functions() -> LambdaFunctions:
    from chalicelib.adapters.lambda_functions import LambdaFunctions

    return LambdaFunctions(client("lambda"), environment().function_prefix)


@cache
def tokens() -> StepTokens:
    from chalicelib.adapters.step_tokens import StepTokens

    return StepTokens(client("stepfunctions"))


def workers() -> FargateWorkers:
    """Raises NotReady (code "no-task")."""
    from chalicelib.adapters.fargate import FargateWorkers

    network = task_network()
    return FargateWorkers(client("ecs"), required("LEEWARD_TASK"), network)


@cache
def backups(component: str) -> ObjectStore:
    """The component's own part of the backup bucket."""
    from chalicelib.adapters.s3.store import S3ObjectStore

    bucket = environment().backup_bucket
    return S3ObjectStore(backup_s3(), bucket, f"{component}/", kms_key_id=backup_key())


@cache
def job_manifests(component: str) -> ObjectStore:
    """The same part of the same bucket, for what S3 Batch Operations is to read: it takes no
    manifest that is encrypted by a KMS key, and one of S3's own has the same ETag each time.

    Source: S3 User Guide, "Creating an S3 Batch Operations job", specifying a manifest.
    """
    from chalicelib.adapters.s3.store import S3ObjectStore

    return S3ObjectStore(backup_s3(), environment().backup_bucket, f"{component}/", s3_key=True)


@cache
def ledgers() -> ObjectStore:
    """What the checks remember of every location: when which object was read, and what it was."""
    from chalicelib.adapters.s3.store import S3ObjectStore

    bucket = environment().backup_bucket
    return S3ObjectStore(backup_s3(), bucket, "checks/", kms_key_id=backup_key())


@cache
def locks(component: str) -> S3Locks:
    """Object Lock on the component's part of the backup bucket."""
    from chalicelib.adapters.s3.locks import S3Locks

    places = locations()
    mode: Any = plan().locations[places.primary].lock_mode.upper()
    return S3Locks(s3(), environment().backup_bucket, f"{component}/", mode=mode)


def buckets() -> S3Buckets:
    """Connections for users' buckets and their replicas; open them in one event loop."""
    from chalicelib.adapters.s3.bucket import S3Buckets
    from chalicelib.adapters.s3.signing import ambient_credentials

    return S3Buckets(ambient_credentials())


def batch_jobs() -> S3BatchJobs:
    """Raises NotReady (code "not-deployed")."""
    from chalicelib.adapters.s3.batch import S3BatchJobs

    return S3BatchJobs(client("s3control"), s3(), required("LEEWARD_BATCH_ROLE"))


@cache
def prober() -> HttpProber:
    from chalicelib.adapters.http.probe import HttpProber

    return HttpProber()


@cache
def locations() -> Locations:
    from chalicelib.services.locations import Locations, read_login

    return Locations(plan(), lambda name: read_login(plan().locations[name]))


@cache
def catalogue(component: str) -> Catalogue:
    from chalicelib.adapters.catalogue import StoredCatalogue

    # The index is of the primary region's stack; in the other the manifests tell alone.
    index = state() if environment().stack == "primary" else None
    return StoredCatalogue(backups(component), component, index=index)


def database(component: str) -> Postgres:
    """The component, which must be a PostgreSQL database.

    Raises BadInput (code "unknown-component").
    """
    found = plan().components.get(component)
    if found is None or found.kind != "postgres":
        names = [name for name, item in plan().components.items() if item.kind == "postgres"]
        raise BadInput(
            f"the plan has no PostgreSQL component {component!r}",
            hint=f"one of: {', '.join(names)}",
            code="unknown-component",
        )
    return found


def require_live(name: str, component: BaseComponent) -> None:
    """Raises Refused (code "retired"): there is nothing left to take it from."""
    if component.retired is not None:
        raise Refused(
            f"{name} is retired since {component.retired}: nothing of it is taken any more",
            hint="its points stay where they are; `leeward restore point` restores them",
            code="retired",
        )


@cache
def addresses() -> SecretAddresses:
    from chalicelib.adapters.secrets import SecretAddresses

    return SecretAddresses(client("secretsmanager"))


def addresses_of(component: Postgres | Redis) -> SecretAddresses:
    """For changing them: a secret is changed in its site's region, and its replicas follow."""
    from chalicelib.adapters.secrets import SecretAddresses
    from chalicelib.plan.regions import region_of

    region = region_of(plan(), component)
    if region in (None, environment().region):
        return addresses()
    return SecretAddresses(client("secretsmanager", region))


def primary_functions(seconds: float) -> LambdaFunctions:
    """Those of the primary stack, from wherever this is; waits so long for an answer."""
    from chalicelib.adapters.lambda_functions import LambdaFunctions, connect_lambda
    from chalicelib.plan.regions import home_region

    region = home_region(plan()) or environment().region
    return LambdaFunctions(connect_lambda(region, seconds), PRIMARY_FUNCTIONS)


def operator_dsn(component: str, name: str = "") -> str:
    """Leeward's own login, on the database that the application uses at this moment.

    `name`: on that database instead.
    """
    from chalicelib.adapters.secrets import with_database

    found = database(component)
    used = name or addresses().read(found.application_secret).database
    return with_database(addresses().read(found.operator_secret).dsn, used)


def database_name(component: str) -> str:
    """What the application uses now; the plan's word for it when its secret cannot be read here."""
    found = database(component)
    try:
        return addresses().read(found.application_secret).database
    except (NotReady, Unavailable):
        return found.database


def source(component: str) -> PostgresSource:
    """The component's server over the replication protocol; close it after use."""
    from chalicelib.adapters.postgres.replication import PostgresSource

    return PostgresSource(operator_dsn(component), any_database=True)


def application(component: Postgres) -> PostgresDatabases:
    """The database that the application uses now, as the application."""
    from chalicelib.adapters.postgres.binaries import find_binaries
    from chalicelib.adapters.postgres.database import PostgresDatabases

    dsn = addresses().read(component.application_secret).dsn
    return PostgresDatabases(dsn, find_binaries(named=environment().postgres))


def operator(component: str, name: str = "") -> PostgresDatabases:
    """The component's server, as Leeward's own role; see `operator_dsn`."""
    from chalicelib.adapters.postgres.binaries import find_binaries
    from chalicelib.adapters.postgres.database import PostgresDatabases

    return PostgresDatabases(
        operator_dsn(component, name), find_binaries(named=environment().postgres)
    )
