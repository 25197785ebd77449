"""The sample application: a small studio that writes all the time and keeps its own ledger.

It reads its database's address at start and whenever a connection breaks: from the variable
DATABASE_URL, as an application that is restarted to be switched, else from Secrets Manager. Where
ASSETS_BUCKET is set, it is healthy only while it can list that bucket. Each committed transaction
is appended to the ledger (one JSON line: xid, asset, project, committed_at; the asset by its path,
which is never used twice, as an id is after a recovery) once PostgreSQL acknowledged it: what the
ledger holds and neither the recovered database nor the set-aside file has, was lost.

Run as `python -m leeward.local.sample_app --ledger FILE [--secret NAME] [--port N] [--rate N]`; it
prints one JSON line with its address when it serves, and ends with SIGTERM or with its parent. In a
pod its port is PORT, and the ledger may be a folder, where each pod has a file of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import psycopg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

SCHEMA = """
CREATE TABLE projects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    owner text NOT NULL,
    budget_cents bigint NOT NULL CHECK (budget_cents >= 0),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE assets (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id bigint NOT NULL REFERENCES projects,
    path text NOT NULL,
    size_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX assets_project ON assets (project_id);
CREATE INDEX projects_owner ON projects (owner);
"""

SEED = """
INSERT INTO projects (name, owner, budget_cents)
SELECT 'project ' || n, 'artist ' || n %% 500, (n * 7919) %% 1000000
FROM generate_series(1, %(projects)s) n;
INSERT INTO assets (project_id, path, size_bytes)
SELECT 1 + n %% %(projects)s,
       'scenes/' || md5(n::text) || '.blend', (n * 104729::bigint) %% 50000000
FROM generate_series(1, %(projects)s * 4) n;
"""

# One transaction in one round trip; in four it took half as much processor time again, of which a
# drill on a small machine has little.
WRITE = """
WITH asset AS (
    INSERT INTO assets (project_id, path, size_bytes) VALUES (%s, %s, %s)
), project AS (
    UPDATE projects SET budget_cents = budget_cents + 1, updated_at = clock_timestamp()
    WHERE id = %s
)
SELECT pg_current_xact_id()::text
"""

AWS_ERRORS = (BotoCoreError, ClientError)
QUICK = Config(retries={"max_attempts": 2}, connect_timeout=2, read_timeout=5)


@cache
def client(service: str) -> Any:
    """Made once: while its database takes no writes, the application asks 20 times a second."""
    return boto3.client(service, config=QUICK)


def create_schema(dsn: str, *, projects: int) -> None:
    """Create and fill the tables; the role in `dsn` owns them."""
    with psycopg.connect(dsn) as connection:
        connection.execute(SCHEMA)
        with psycopg.ClientCursor(connection) as cursor:
            cursor.execute(SEED, {"projects": projects})


@dataclass
class Studio:
    """The writer: one transaction every 1/rate seconds while it can reach its database."""

    secret: str
    ledger: Path
    rate: float
    assets: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    database: str = ""
    written: int = 0
    last_write_at: datetime | None = None
    last_error: str = "not connected yet"
    assets_problem: str = ""
    assets_asked_at: float = float("-inf")

    def run(self) -> None:
        with self.ledger.open("a", buffering=1) as ledger:
            while not self.stopping.is_set():
                try:
                    address = self._address()
                    with psycopg.connect(address, connect_timeout=2, autocommit=True) as connection:
                        self._write_until_broken(connection, ledger)
                except (psycopg.Error, *AWS_ERRORS) as error:
                    self.last_error = type(error).__name__
                    self.stopping.wait(0.05)

    def _address(self) -> str:
        if "DATABASE_URL" in os.environ:
            return os.environ["DATABASE_URL"]
        text = client("secretsmanager").get_secret_value(SecretId=self.secret)["SecretString"]
        return str(json.loads(text)["dsn"])

    def _write_until_broken(self, connection: psycopg.Connection[Any], ledger: Any) -> None:
        self.database = connection.info.dbname
        projects = _one(connection, "SELECT max(id) FROM projects")
        while not self.stopping.is_set():
            entry = self._write(connection, random.randint(1, projects))
            ledger.write(json.dumps(entry) + "\n")
            self.written += 1
            self.last_write_at = datetime.now(UTC)
            self.stopping.wait(1 / self.rate)

    def _write(self, connection: psycopg.Connection[Any], project: int) -> dict[str, Any]:
        path = f"scenes/{random.getrandbits(64):x}.blend"
        values = (project, path, random.randint(1, 10**7), project)
        [(xid,)] = connection.execute(WRITE, values).fetchall()
        at = datetime.now(UTC).isoformat()
        return {
            "xid": int(xid),
            "asset": path,
            "project": project,
            "database": self.database,
            "committed_at": at,
        }

    def health(self) -> tuple[int, dict[str, Any]]:
        """200 when it wrote within the last 2 s and can list its bucket, if any, else 503."""
        age = None
        if self.last_write_at is not None:
            age = (datetime.now(UTC) - self.last_write_at).total_seconds()
        healthy = age is not None and age < 2 and not self._problem_of_assets()
        body = {
            "healthy": healthy,
            "database": self.database,
            "written": self.written,
            "seconds_since_write": age,
            "last_error": self.last_error,
            "assets_bucket": self.assets,
            "assets_problem": self.assets_problem,
        }
        return (200 if healthy else 503), body

    def _problem_of_assets(self) -> str:
        """Asked again when the last answer is 2 s old."""
        if self.assets and time.monotonic() - self.assets_asked_at > 2:
            self.assets_asked_at = time.monotonic()
            try:
                client("s3").list_objects_v2(Bucket=self.assets, MaxKeys=1)
                self.assets_problem = ""
            except AWS_ERRORS as error:
                self.assets_problem = type(error).__name__
        return self.assets_problem


def _one(connection: psycopg.Connection[Any], sql: str) -> Any:
    row = connection.execute(sql).fetchone()  # type: ignore[call-overload]
    return row[0] if row else None


def serve(studio: Studio, port: int) -> ThreadingHTTPServer:
    """GET /health, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name http.server calls
            status, body = studio.health() if self.path == "/health" else (404, {})
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--secret", default="")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "0")))
    parser.add_argument("--rate", type=float, default=50)
    options = parser.parse_args()
    if not options.secret and "DATABASE_URL" not in os.environ:
        parser.error("expected --secret or the variable DATABASE_URL, found neither")
    if options.ledger.is_dir():
        options.ledger /= f"ledger-{os.environ.get('HOSTNAME', 'alone')}.jsonl"
    assets = os.environ.get("ASSETS_BUCKET", "")
    studio = Studio(options.secret, options.ledger, options.rate, assets)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: studio.stopping.set())
    server = serve(studio, options.port)
    print(json.dumps({"address": f"http://127.0.0.1:{server.server_port}"}), flush=True)  # noqa: T201
    parent = os.getppid()
    writer = threading.Thread(target=studio.run, daemon=True)
    writer.start()
    while not studio.stopping.is_set() and os.getppid() == parent:
        time.sleep(0.2)
    studio.stopping.set()
    writer.join(3)


if __name__ == "__main__":
    main()
