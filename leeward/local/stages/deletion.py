"""An accidental deletion: rows and objects go by the application's own hand, while it writes.

The rows are the application's (two tables, one refers to the other), the objects its uploads. What
was deleted is kept here, as it was just before; afterwards every row and object is counted.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from botocore.exceptions import ClientError

from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Bucket
from chalicelib.plan.model import Plan
from chalicelib.plan.records import parse_lsn
from leeward.local.clients import open_client
from leeward.local.damage import Injected
from leeward.local.drill import DrillOptions, Fact, Told
from leeward.local.ledger import read_ledger, reckon
from leeward.local.production import APPLICATION, DATABASE, SUPERUSER
from leeward.local.stages.database import DatabaseDrill

OBJECTS, DELETED, LATER = 60, 30, 10
# By so much, and a second, a replica's copy must be younger than its source to be known for one.
YOUNGER_SECONDS = 3.1
# S3 tells whole seconds: what is deleted in the second of an inventory may have been before it.
NEXT_SECOND = 1.1
INTERN = "nexus-intern"
# Of the projects, so many of a hundred are deleted, with their assets.
SHARE = 10
ALARM_REASON = "a user reports that projects and uploads are gone"


class DeletionDrill(DatabaseDrill):
    """See the module. Damages: what is deleted."""

    damages: ClassVar[tuple[str, ...]] = ("rows-and-objects", "rows", "objects", "dropped-table")

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        return any(
            step.uses == "deletion.find-scope" for step in plan.scenarios[scenario].all_steps()
        )

    def __init__(self, plan: Plan, options: DrillOptions, tell: Callable[[Told], None]) -> None:
        """The scenario is about several components; the stage is put up around the database."""
        restored = plan.scenarios[options.scenario].restores
        database = next(it for it in restored if plan.components[it].kind == "postgres")
        super().__init__(plan, replace(options, component=database), tell)

    def set_stage(self, stack: ExitStack) -> None:
        """The plan's health addresses are those of this machine."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._health_handler())
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.plan = self._with_health(f"http://127.0.0.1:{server.server_port}")
        super().set_stage(stack)

    def _with_health(self, address: str) -> Plan:
        data = self.plan.to_json()
        for name, component in data["components"].items():
            if component.get("health"):
                component["health"] = f"{address}/{name}"
        return Plan.from_json(data)

    def _health_handler(self) -> type[BaseHTTPRequestHandler]:
        """A bucket is healthy when the application can read the first and the last upload."""
        drill = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 - the name http.server calls
                self.send_response(200 if drill._is_healthy(self.path) else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def _is_healthy(self, path: str) -> bool:
        component = self.plan.components.get(path.strip("/"))
        if not isinstance(component, Bucket):
            return bool(self.application.health().get("healthy"))
        return {"upload-0000", f"upload-{OBJECTS - 1:04}"} <= set(self._state(component.bucket))

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        found = next(it for it in self.plan.components.values() if isinstance(it, Bucket))
        self.uploads = found
        self.s3 = self.cloud.client("s3")
        self._start_trail()
        iam = self.cloud.client("iam")
        iam.create_user(UserName=INTERN)
        key = iam.create_access_key(UserName=INTERN)["AccessKey"]
        self.intern = open_client(self.cloud, "s3", key, source="203.0.113.7")
        for bucket in self.plan.components.values():
            if isinstance(bucket, Bucket) and bucket.recovery_bucket:
                self.s3.create_bucket(Bucket=bucket.recovery_bucket)

    def _start_trail(self) -> None:
        """Who does what to the uploads, where the plan says that it is written."""
        named = self.plan.trail
        if named is None:
            return
        self.s3.create_bucket(Bucket=named.bucket)
        client = self.cloud.client("cloudtrail")
        client.create_trail(Name="studio", S3BucketName=named.bucket, S3KeyPrefix=named.prefix)
        values = [f"arn:aws:s3:::{self.uploads.bucket}/"]
        data = {"Type": "AWS::S3::Object", "Values": values}
        selector = {"ReadWriteType": "All", "DataResources": [data]}
        client.put_event_selectors(TrailName="studio", EventSelectors=[selector])
        client.start_logging(Name="studio")

    def prepare(self) -> None:
        """And the night's sync, which leaves an inventory that witnesses the uploads."""
        began = time.monotonic()
        for number in range(OBJECTS):
            self._put(f"upload-{number:04}")
        self.cloud.wait_idle()
        self.say("application", f"{OBJECTS} uploads", began)
        super().prepare()
        began = time.monotonic()
        component = next(n for n, it in self.plan.components.items() if it is self.uploads)
        time.sleep(YOUNGER_SECONDS)
        self.say("backup", self.invoke("sync", {"component": component})["found"], began)
        time.sleep(NEXT_SECOND)

    def harm(self) -> tuple[Injected, ...]:
        began = time.monotonic()
        what = self.options.damage
        self.rows_before = self._rows()
        injected = []
        if what in ("rows", "rows-and-objects"):
            injected.append(self._delete_rows())
        if what == "dropped-table":
            injected.append(self._drop_table())
        self.objects_before = self._state(self.uploads.bucket)
        if "objects" in what:
            injected.append(self._delete_objects())
        for number in range(LATER):
            self._put(f"later-{number:04}")
        for it in injected:
            self.say("damage", it.what, began)
        self.injected = tuple(injected)
        return self.injected

    def notice(self) -> str:
        return self.declare(ALARM_REASON)

    def _delete_rows(self) -> Injected:
        """One transaction of the application's own role; what it takes is kept here first."""
        last = self.options.projects * SHARE // 100
        statements = (
            f"DELETE FROM assets WHERE project_id <= {last}",
            f"DELETE FROM projects WHERE id <= {last}",
        )
        return self._as_application("rows", "mass-delete", *statements, keep=last)

    def _drop_table(self) -> Injected:
        return self._as_application("dropped-table", "drop", "DROP TABLE assets", keep=None)

    def _as_application(self, name: str, kind: str, *statements: str, keep: int | None) -> Injected:
        where = "" if keep is None else f" WHERE project_id <= {keep}"
        with psycopg.connect(self.production.dsn(APPLICATION)) as connection:
            connection.execute("LOCK TABLE projects, assets IN SHARE ROW EXCLUSIVE MODE")
            self.deleted_assets = _assets(connection, where)
            for statement in statements:
                connection.execute(statement)
            row = connection.execute(
                "SELECT pg_current_xact_id()::text, pg_current_wal_insert_lsn()::text"
            ).fetchone()
        assert row is not None
        return Injected(
            name, kind, "; ".join(statements), datetime.now(UTC), int(row[0]),
            parse_lsn(row[1]), "public.assets", len(self.deleted_assets),
        )  # fmt: skip

    def _delete_objects(self) -> Injected:
        keys = [f"upload-{number:04}" for number in range(DELETED)]
        at = datetime.now(UTC)
        objects = {"Objects": [{"Key": key} for key in keys]}
        self.intern.delete_objects(Bucket=self.uploads.bucket, Delete=objects)
        return Injected("objects", "deleted-objects", f"{DELETED} uploads deleted", at)

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        """Every row and every object that was there, or was written since."""
        healthy = bool(self.application.health().get("healthy"))
        self.application.stop()
        if not self._has_assets():
            return (), ["the table assets is gone"]
        self.reckoning = reckon(
            read_ledger(self.application.ledger),
            dsn=self.production.dsn(SUPERUSER, DATABASE),
            set_aside_assets=_aside(folder),
            damaged_at=None,
            damaged_database=DATABASE,
        )
        with psycopg.connect(self.production.dsn(SUPERUSER, DATABASE)) as connection:
            assets = _assets(connection, "")
        lost_rows = len(self.rows_before - self._rows())
        differing = sum(assets.get(key) != row for key, row in self._taken().items())
        objects = self._state(self.served_bucket())
        wanted = self.objects_before | {
            key: value for key, value in objects.items() if key.startswith("later-")
        }
        problems = {
            "the application does not serve": healthy,
            f"committed rows are lost: {self.reckoning.lost}": not self.reckoning.lost,
            f"{lost_rows} projects are gone": not lost_rows,
            f"{differing} deleted assets are not what they were": not differing,
            f"objects differ: {len(objects)} of {len(wanted)}": objects == wanted,
            "what was written since is gone": len(wanted) >= OBJECTS + LATER,
            "the right to delete was not taken": self._is_tightened(),
        }
        facts = (
            Fact("committed rows lost", str(len(self.reckoning.lost)), "0",
                 not self.reckoning.lost),
            Fact("deleted rows that differ", str(differing + lost_rows), "0",
                 not differing + lost_rows),
            Fact("uploads", str(len(objects)), str(len(wanted)), objects == wanted),
        )  # fmt: skip
        return facts, [text for text, holds in problems.items() if not holds]

    def served_bucket(self) -> str:
        """Where the application's uploads are at the end."""
        return self.uploads.bucket

    def _has_assets(self) -> bool:
        with psycopg.connect(self.production.dsn(SUPERUSER, DATABASE)) as connection:
            row = connection.execute("SELECT to_regclass('assets') IS NOT NULL").fetchone()
        return row == (True,)

    def _taken(self) -> dict[str, str]:
        return getattr(self, "deleted_assets", {})

    def _is_tightened(self) -> bool:
        """The application's role, and whoever it was in the bucket, deletes no longer."""
        names = {injected.name for injected in self.injected}
        refused = True
        if "rows" in names:  # who dropped a table, nothing tells
            with psycopg.connect(self.production.dsn(SUPERUSER, DATABASE)) as connection:
                row = connection.execute(
                    "SELECT has_table_privilege(%s, 'assets', 'DELETE')", (APPLICATION,)
                ).fetchone()
            refused = row == (False,)
        if "objects" in names:
            refused = refused and self._is_refused(f"upload-{OBJECTS - 1:04}")
        return refused

    def _is_refused(self, key: str) -> bool:
        try:
            self.intern.delete_object(Bucket=self.uploads.bucket, Key=key)
        except ClientError as error:
            return bool(error.response["Error"]["Code"] == "AccessDenied")
        return False

    def _rows(self) -> frozenset[int]:
        with psycopg.connect(self.production.dsn(SUPERUSER, DATABASE)) as connection:
            return frozenset(row[0] for row in connection.execute("SELECT id FROM projects"))

    def _put(self, key: str) -> None:
        self.s3.put_object(Bucket=self.uploads.bucket, Key=key, Body=key.encode() * 20)

    def _state(self, bucket: str) -> dict[str, str]:
        """Key -> ETag of what can be read now."""
        pages = self.cloud.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {it["Key"]: it["ETag"] for page in pages for it in page.get("Contents", ())}


def _assets(connection: psycopg.Connection[Any], where: str) -> dict[str, str]:
    """Path -> digest of the whole row."""
    rows = connection.execute(f"SELECT path, t::text FROM assets t{where}")
    return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in rows}


def _aside(folder: Path) -> set[str]:
    lines = [line for file in folder.glob("rows-aside-*") for line in file.read_text().splitlines()]
    return {str(json.loads(line)["row"].get("path")) for line in lines}
