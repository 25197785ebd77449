"""docs/restore-by-hand.md, executed: backups brought back without Leeward, and without AWS."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.binaries import find_binaries, server_account
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.postgres.server import end_processes
from chalicelib.adapters.s3.store import S3ObjectStore, connect_s3
from chalicelib.adapters.sealing.envelope import DataKey, seal
from chalicelib.adapters.sealing.key_ring import KeyRing
from chalicelib.adapters.sealing.offline_keys import OfflinePublicKey
from chalicelib.adapters.sealing.store import SealedStore
from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal
from chalicelib.plan.records import PointKind
from tests.fakes_keys import GOLDEN, PASSPHRASE, PRIVATE_PEM, PUBLIC_PEM
from tests.servers import running_server

PAGE = Path(__file__).parents[2] / "docs" / "restore-by-hand.md"
TOOLS = Path(sys.executable).parent
CLOCK = SystemClock()
# All servers of moto in one process hold the same buckets.
BUCKET = "restored-by-hand"

# For machines without the `zstd` program: the two ways in which the page calls it.
ZSTD = f"""#!{sys.executable}
import sys, zstandard
words = [word for word in sys.argv[1:] if not word.startswith("-")]
with open(words[0], "rb") as packed:
    with open(words[1], "wb") if len(words) > 1 else sys.stdout.buffer as unpacked:
        zstandard.ZstdDecompressor().copy_stream(packed, unpacked)
"""


@pytest.fixture(scope="module")
def stored() -> Iterator[dict[str, str]]:
    """What the page's reader knows: where the backups are; and the moment to go back to."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        client = connect_s3("us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield environment | {"BUCKET": BUCKET, "COMPONENT": "db"} | take_history(client)
    server.stop()


def take_history(client: Any) -> dict[str, str]:
    store = S3ObjectStore(client, BUCKET, "db/")
    catalogue = StoredCatalogue(store, "db")
    with running_server() as server, PostgresSource(server.dsn()) as source:

        def take(kind: PointKind) -> str:
            return take_backup(source, store, catalogue, component="db", kind=kind, clock=CLOCK).id

        def tick() -> None:
            fetch_wal(source, store, catalogue, component="db", clock=CLOCK)

        place = server.folder / "fast"
        place.mkdir()
        owner = server.data.stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        server.run(
            f"create tablespace fast location '{place}'",
            "create table t tablespace fast as select generate_series(1, 1000) as id",
        )
        tick()
        full = take("full")
        server.run("delete from t where id > 900", "vacuum t")
        incremental = take("incremental")
        tick()
        server.run("insert into t values (0)")
        with server.connect() as connection, connection.transaction():
            [xid] = connection.execute("select pg_current_xact_id()::text").fetchone()
            connection.execute("delete from t")
        tick()
    return {"FULL": full, "CHAIN": f"{full} {incremental}", "XID": xid}


@pytest.fixture
def desk() -> Iterator[Path]:
    """The empty folder in which the page's commands run."""
    with tempfile.TemporaryDirectory(prefix="lw-hand-") as folder:
        (Path(folder) / "work").mkdir()
        Path(folder).chmod(0o755)
        yield Path(folder) / "work"
        end_processes(Path(folder) / "work" / "data")


def commands(language: str = "sh", *, sealed: bool = False) -> list[str]:
    """Of the page, or of its part about sealed copies."""
    parts = PAGE.read_text().partition("## 7. ")[0].partition("## 6. ")
    return re.findall(rf"```{language}\n(.*?)```", parts[2 if sealed else 0], re.DOTALL)


def follow_the_page(
    desk: Path, known: dict[str, str], points: str, target: str, *, outside_aws: bool = False
) -> None:
    """Root hands over to the account of the server where the page starts one."""
    tools = desk.parent / "tools"
    tools.mkdir()
    if not shutil.which("zstd"):
        (tools / "zstd").write_text(ZSTD)
        (tools / "zstd").chmod(0o755)
    programs = find_binaries(17)
    path = os.pathsep.join([str(tools), str(TOOLS), str(programs.bin_dir), os.defpath])
    environment = {**known, "PATH": path, "LC_ALL": "C", "POINTS": points, "TARGET": target}
    *preparing, starting = commands()
    if outside_aws:
        (desk / "unseal.py").write_text(commands("python", sealed=True)[0])
        fetch = re.compile("^ *aws .*\n", re.MULTILINE)
        preparing = commands(sealed=True) + [fetch.sub("", block) for block in preparing]
    run("\n".join(["set -e", *preparing]), desk, environment, {})
    account = server_account(desk)
    account.own(desk)
    run("set -e\n" + starting, desk, environment, account.popen_options())


def run(script: str, desk: Path, environment: dict[str, str], account: dict[str, Any]) -> None:
    said = desk.parent / "said"
    with said.open("wb") as output:
        done = subprocess.run(
            ["sh", "-c", script], cwd=desk, env=environment, timeout=120,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, **account,
        )  # fmt: skip
    log = desk / "server.log"
    assert done.returncode == 0, said.read_text() + (log.read_text() if log.exists() else "")


def ask(desk: Path, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(f"host={desk} user=postgres dbname=postgres") as connection:
        return connection.execute(sql).fetchall()  # type: ignore[call-overload]


def test_a_full_backup_to_the_instant_before_a_transaction(
    desk: Path, stored: dict[str, str]
) -> None:
    follow_the_page(desk, stored, stored["FULL"], f"recovery_target_xid = '{stored['XID']}'")
    assert ask(desk, "select count(*), min(id), max(id) from t") == [(901, 0, 900)]


def test_a_chain_with_an_incremental_to_the_end(desk: Path, stored: dict[str, str]) -> None:
    follow_the_page(desk, stored, stored["CHAIN"], "")
    assert ask(desk, "select count(*) from t") == [(0,)]
    assert ask(desk, "select pg_is_in_recovery()") == [(False,)]


def test_damage_ends_it_before_anything_is_unpacked(desk: Path, stored: dict[str, str]) -> None:
    client = connect_s3("us-east-1")
    key = f"db/points/{stored['FULL']}/base.tar.zst"
    whole = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    client.put_object(Bucket=BUCKET, Key=key, Body=whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(AssertionError, match="is damaged"):
            follow_the_page(desk, stored, stored["FULL"], "")
    finally:
        client.put_object(Bucket=BUCKET, Key=key, Body=whole)
    assert not (desk / "unpacked").exists()


LOCATION = "gcs-us-central1/db"


def copy_outside_aws(desk: Path) -> dict[str, str]:
    """The copy as its cloud's tool brings it; what its reader knows, which is nothing of AWS."""
    source = S3ObjectStore(connect_s3("us-east-1"), BUCKET, "db/")
    folder = FolderObjectStore(desk / "sealed")
    offline = OfflinePublicKey(PUBLIC_PEM)
    copies = SealedStore(folder, KeyRing(folder, LOCATION, clock=CLOCK, recipients=[offline]))
    for row in source.list():
        with copies.open_writer(row.key) as writer:
            for chunk in source.read(row.key):
                writer.write(chunk)
            writer.commit()
    (desk / "offline-private.pem").write_bytes(PRIVATE_PEM)
    return {
        "PRIVATE_KEY": "offline-private.pem",
        "PASSPHRASE": PASSPHRASE,
        "LOCATION": LOCATION,
    }


def test_a_copy_outside_aws_with_the_offline_key_alone(desk: Path, stored: dict[str, str]) -> None:
    known = copy_outside_aws(desk)
    target = f"recovery_target_xid = '{stored['XID']}'"
    follow_the_page(desk, known, stored["CHAIN"], target, outside_aws=True)
    assert ask(desk, "select count(*), min(id), max(id) from t") == [(901, 0, 900)]


def test_a_sealed_copy_that_was_altered_ends_it(desk: Path, stored: dict[str, str]) -> None:
    known = copy_outside_aws(desk)
    wal = next((desk / "sealed/wal").rglob("*.zst"))
    data = bytearray(wal.read_bytes())
    data[-1] ^= 1
    wal.write_bytes(data)
    with pytest.raises(AssertionError, match=f"{wal.name} was altered"):
        follow_the_page(desk, known, stored["FULL"], "", outside_aws=True)
    assert not (desk / "unpacked").exists()


def test_the_printed_script_opens_what_was_sealed_when_the_format_was_made(desk: Path) -> None:
    """A second reader of the format: it shares no line with Leeward's."""
    vectors = json.loads((GOLDEN / "vectors.json").read_text())
    key = DataKey(vectors["key_id"], vectors["location"], bytes.fromhex(vectors["secret"]))
    (desk / "opened").mkdir()
    (desk / "opened" / key.id).write_bytes(key.secret)
    (desk / "unseal.py").write_text(commands("python", sealed=True)[0])
    for it in vectors["objects"]:
        path = desk / "sealed" / it["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = hashlib.shake_256(it["name"].encode()).digest(it["size_bytes"])
        path.write_bytes(seal(plain, key, it["name"], salt=bytes.fromhex(it["salt"])))
    environment = {"PATH": f"{TOOLS}{os.pathsep}{os.defpath}", "LC_ALL": "C.UTF-8"}
    run(f"python3 unseal.py '{vectors['location']}'", desk, environment, {})
    for it in vectors["objects"]:
        opened = (desk / "unsealed" / it["name"]).read_bytes()
        assert hashlib.sha256(opened).hexdigest() == it["sha256"]
