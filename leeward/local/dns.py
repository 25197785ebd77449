"""Route 53's name servers: what moto's records and the health checks' real state answer.

    dig @127.0.0.1 -p PORT api.example.org A

UDP and TCP on one free port of loopback, authoritative for every public zone, no recursion. Known:
A, AAAA, CNAME and other records with values, wildcards, failover, weighted and multi-value sets,
aliases within a zone. Latency and geolocation are not: such sets answer as if there were one place.
Source: Route 53 developer guide, "How Amazon Route 53 chooses records when health checking is
configured".
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from dnslib import QTYPE, RCODE, RR, DNSHeader, DNSRecord
from dnslib.server import DNSLogger, DNSServer

from leeward.local.iam import ACCOUNT
from leeward.local.serving import serve

IsHealthy = Callable[[str], bool]
LONGEST_CHAIN = 8


@dataclass(frozen=True)
class Reply:
    """`values`: (name, type, TTL in seconds, value as zone files write it), in order."""

    code: str
    values: tuple[tuple[str, str, int, str], ...] = ()


def answer(zones: Iterable[Any], name: str, kind: str, *, is_healthy: IsHealthy) -> Reply:
    """What Route 53 answers for a name and a type.

    Args:
        zones: moto's, with `name` and `rrsets`. is_healthy: of a health check's id.
    """
    asked = _plain(name)
    holding = [it for it in zones if f".{asked}".endswith(f".{_plain(it.name)}")]
    if not holding:
        return Reply("REFUSED")
    zone = max(holding, key=lambda it: len(it.name))
    found: list[tuple[str, str, int, str]] = []
    for _ in range(LONGEST_CHAIN):
        named = _of_name(zone.rrsets, asked)
        if not named:
            return Reply("NOERROR" if found else "NXDOMAIN", tuple(found))
        chosen = _choose([it for it in named if it.type == kind], is_healthy)
        alias = _choose([it for it in named if it.type == "CNAME"], is_healthy)
        if chosen is not None and chosen.alias_target:
            asked = _plain(chosen.alias_target["DNSName"])
            continue
        if chosen is not None:
            return Reply("NOERROR", (*found, *_values(chosen, name)))
        if alias is None:
            return Reply("NOERROR", tuple(found))
        found += _values(alias, asked)
        asked = _plain(found[-1][3])
    return Reply("SERVFAIL")


def _plain(name: str) -> str:
    return name.rstrip(".").lower().replace("\\052", "*")


def _of_name(sets: Sequence[Any], name: str) -> list[Any]:
    """The sets of the name, else those of the nearest wildcard."""
    labels = name.split(".")
    for candidate in (name, *(".".join(("*", *labels[i:])) for i in range(1, len(labels)))):
        if found := [it for it in sets if _plain(it.name) == candidate]:
            return found
    return []


def _values(chosen: Any, name: str) -> list[tuple[str, str, int, str]]:
    return [(name, chosen.type, int(chosen.ttl or 0), value) for value in chosen.records]


def _choose(sets: list[Any], is_healthy: IsHealthy) -> Any:
    """One set of those with the same name and type; None without any."""
    if not sets:
        return None
    well = [it for it in sets if not it.health_check_id or is_healthy(it.health_check_id)]
    if any(it.failover for it in sets):
        return _by_failover(sets, well)
    if any(it.weight is not None for it in sets):
        return _by_weight(well or sets)
    return (well or sets)[0]


def _by_failover(sets: list[Any], well: list[Any]) -> Any:
    """When neither is healthy, the primary answers."""
    role = {it.failover: it for it in sets}
    for wanted in ("PRIMARY", "SECONDARY"):
        if wanted in role and role[wanted] in well:
            return role[wanted]
    return role.get("PRIMARY") or sets[0]


def _by_weight(candidates: list[Any]) -> Any:
    """A weight of 0 is not "never": it is answered when nothing heavier is healthy."""
    weights = [int(it.weight or 0) for it in candidates]
    if not any(weights):
        return random.choice(candidates)
    return random.choices(candidates, weights)[0]


class NameServer:
    """Serves until `stop`."""

    def __init__(self, is_healthy: IsHealthy) -> None:
        self._is_healthy = is_healthy
        self._ending = ExitStack()

    def start(self, host: str) -> str:
        """Serve on a free port; returns "host:port"."""
        silent = DNSLogger(logf=lambda _: None)
        tcp = DNSServer(self, address=host, port=0, tcp=True, logger=silent)
        port = tcp.server.server_address[1]
        udp = DNSServer(self, address=host, port=port, tcp=False, logger=silent)
        for one in (tcp, udp):
            self._ending.callback(serve(one.server))
        return f"{host}:{port}"

    def stop(self) -> None:
        self._ending.close()

    def resolve(self, request: DNSRecord, _handler: Any) -> DNSRecord:
        """What dnslib calls for each query."""
        kind = QTYPE[request.q.qtype]
        found = answer(hosted_zones(), str(request.q.qname), kind, is_healthy=self._is_healthy)
        header = DNSHeader(id=request.header.id, qr=1, aa=int(found.code != "REFUSED"), ra=0)
        header.rd = request.header.rd
        header.rcode = getattr(RCODE, found.code)
        reply = DNSRecord(header, q=request.q)
        for name, type_, ttl, value in found.values:
            reply.add_answer(
                *RR.fromZone(f"{_plain(name)}. {ttl} IN {type_} {_dotted(type_, value)}")
            )
        return reply


def _dotted(kind: str, value: str) -> str:
    """Names in values are whole names: without a dot at the end they would be relative."""
    return f"{value.rstrip('.')}." if kind in ("CNAME", "NS", "PTR") else value


def hosted_zones() -> list[Any]:
    """moto's public zones; nothing is imported for it, and half an import is none yet."""
    backends = getattr(sys.modules.get("moto.route53.models"), "route53_backends", None)
    zones = list(backends[ACCOUNT]["aws"].zones.values()) if backends else []
    return [it for it in zones if not it.private_zone]
