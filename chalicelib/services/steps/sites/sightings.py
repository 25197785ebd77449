"""How each kind of component is asked whether it is still there: a few probes for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

from chalicelib.adapters.reach import reach_tcp
from chalicelib.errors import LeewardError, Unavailable
from chalicelib.plan.components import (
    BaseComponent,
    Bucket,
    Files,
    Git,
    Postgres,
    Redis,
    Server,
    Service,
)
from chalicelib.ports.infrastructure import Reach, Sighting
from chalicelib.services import build

Probe = Callable[[], Sighting]

# A component that takes longer does not serve anybody either.
PROBE_SECONDS = 8.0
# Of them, for a connection; a login and a first query take the rest.
CONNECT_SECONDS = 3.0
POSTGRES_PORT, REDIS_PORT, TLS_PORT = 5432, 6379, 443


def probes_of(name: str) -> dict[str, Probe]:
    """What to ask of a component, by what is asked; nothing when it cannot be asked from here."""
    found = build.plan().components[name]
    return dict(_probes(name, found))


def _probes(name: str, found: BaseComponent) -> Iterator[tuple[str, Probe]]:
    if isinstance(found, Postgres):
        yield "database", partial(_postgres, name)
    if isinstance(found, Redis) and found.secret:
        yield "cache", partial(_redis, found.secret)
    if isinstance(found, Bucket):
        yield "bucket", partial(_bucket, found, _region(found))
    if isinstance(found, Service) and found.cluster:
        yield "cluster", partial(_address, found.cluster.endpoint)
    if isinstance(found, Service) and found.health:
        yield "health", partial(_health, found.health)
    if isinstance(found, Git) and found.repository and found.repository.startswith("https:"):
        address = f"{found.repository.rstrip('/')}/info/refs?service=git-upload-pack"
        yield "repository", partial(_health, address)
    server = build.plan().components.get(found.on or "") if not isinstance(found, Server) else found
    if isinstance(server, Server) and isinstance(found, (Server, Files, Service)):
        yield "server", partial(_server, server, _region(server))


def _region(found: BaseComponent) -> str:
    site = build.plan().sites.get(found.site or "")
    own = found.region if isinstance(found, Server) else None
    return own or (site.region if site and site.provider == "aws" else None) or ""


def unasked(asked: str, why: str) -> Sighting:
    return Sighting(asked, "unasked", why)


def silent(asked: str, seconds: float) -> Sighting:
    return Sighting(asked, "silent", f"{asked}: no answer in {seconds:g} s", seconds)


def _health(address: str) -> Sighting:
    """Somebody listens, and what they answer is good: two questions, told apart."""
    from chalicelib.adapters.http.probe import HttpProber

    door = _address(address)
    if door.reach != "serves":
        return door
    answer = HttpProber().probe(address, says="", within_seconds=PROBE_SECONDS - CONNECT_SECONDS)
    reach: Reach = "serves" if answer.good else "falters" if answer.status else "silent"
    found = f"HTTP {answer.status} in {answer.seconds:.2f} s" if answer.good else answer.problem
    return Sighting(f"GET {address}", reach, f"{address}: {found}", round(answer.seconds, 3))


def _address(address: str) -> Sighting:
    url = urlsplit(address)
    port = url.port or (80 if url.scheme == "http" else TLS_PORT)
    return _tcp(url.hostname or "", port)


def _tcp(host: str, port: int) -> Sighting:
    seen = reach_tcp(host, port, within_seconds=CONNECT_SECONDS)
    return Sighting(seen.asked, seen.reach, f"{host}:{port}: {seen.found}", seen.seconds)


def _postgres(name: str) -> Sighting:
    """It takes a login of Leeward's own role and says what it is."""
    from chalicelib.adapters.postgres.database import parse_dsn

    asked = f"a query of {name}"
    try:
        dsn = build.operator_dsn(name)
    except LeewardError as error:
        return unasked(asked, f"{name}: its login cannot be read: {error.message}")
    address = parse_dsn(dsn)
    host = str(address.get("hostaddr") or address.get("host") or "localhost")
    if not host.startswith("/"):
        door = _tcp(host, int(address.get("port") or POSTGRES_PORT))
        if door.reach != "serves":
            return door
    return _answered(asked, partial(_ask_postgres, name))


def _ask_postgres(name: str) -> tuple[Reach, str]:
    with build.operator(name).session(timeout_seconds=CONNECT_SECONDS) as session:
        standby = session.query("SELECT pg_is_in_recovery()")[0][0]
    return ("falters", "it is a standby, read alone") if standby else ("serves", "it takes queries")


def _redis(secret: str) -> Sighting:
    from chalicelib.adapters.redis.source import RedisServer

    asked = f"the server of {secret}"
    try:
        url = str(build.locations().secret(secret).get("url", ""))
    except LeewardError as error:
        return unasked(asked, f"{secret}: its address cannot be read: {error.message}")
    address = urlsplit(url)
    if address.hostname:
        door = _tcp(address.hostname, address.port or REDIS_PORT)
        if door.reach != "serves":
            return door

    def ask() -> tuple[Reach, str]:
        with RedisServer(
            url, connect_seconds=CONNECT_SECONDS, answer_seconds=CONNECT_SECONDS
        ) as server:
            server.facts()
        return "serves", "it answers"

    return _answered(asked, ask)


def _bucket(found: Bucket, region: str) -> Sighting:
    def ask() -> tuple[Reach, str]:
        from chalicelib.adapters.aws_errors import mapped

        with mapped("s3", bucket=found.bucket):
            build.client("s3", region).list_objects_v2(Bucket=found.bucket, MaxKeys=1)
        return "serves", f"{found.bucket} can be listed"

    return _answered(f"a listing of {found.bucket}", ask)


def _server(found: Server, region: str) -> Sighting:
    """It runs, and its agent takes commands."""
    from chalicelib.adapters.servers.ec2 import Ec2Servers
    from chalicelib.adapters.servers.ssm import SsmCommands

    def ask() -> tuple[Reach, str]:
        running = [
            it
            for it in Ec2Servers(build.client("ec2", region)).find(found.instance)
            if it.state == "running"
        ]
        if not running:
            return "refuses", f"no instance {found.instance} runs"
        if not SsmCommands(build.client("ssm", region)).is_online(running[-1].id):
            return "falters", f"{running[-1].id} runs, and takes no commands"
        return "serves", f"{running[-1].id} takes commands"

    return _answered(f"the server {found.instance}", ask)


def _answered(asked: str, ask: Callable[[], tuple[Reach, str]]) -> Sighting:
    """What does not answer is silent; what answers with a refusal falters."""
    began = build.clock().now()
    try:
        reach, found = ask()
    except Unavailable as error:
        reach, found = "silent", error.message
    except LeewardError as error:
        reach, found = "falters", error.message
    seconds = (build.clock().now() - began).total_seconds()
    return Sighting(asked, reach, found, round(seconds, 3))
