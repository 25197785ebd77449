"""A DNS client that asks a zone's own name servers, over UDP, and over TCP when that is cut off.

A resolver in between would answer from its cache for as long as the TTL says, and show neither
when the zone changed nor whether all of its servers agree.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from chalicelib.errors import BadInput, Unavailable
from chalicelib.ports.traffic import Answer

TIMEOUT_SECONDS = 2.0
TRIES = 2
LOOKUP_SECONDS = 5.0
PORT = 53

Address = tuple[str, int]


class NameServers:
    """The port Resolver. `only`: the one server to ask ("127.0.0.1:5353"), "" for the zone's own,
    which the system's resolver finds and which listen on `port`."""

    def __init__(
        self, only: str = "", *, timeout_seconds: float = TIMEOUT_SECONDS, port: int = PORT
    ) -> None:
        self._port = port
        self._only = parse_address(only) if only else None
        self._timeout_seconds = timeout_seconds
        self._found: dict[str, list[Address]] = {}

    def ask(self, zone: str, name: str, kind: str) -> list[Answer]:
        servers = [self._only] if self._only else self._servers_of(zone)
        with ThreadPoolExecutor(len(servers)) as pool:
            return list(pool.map(lambda server: self._ask(server, name, kind), servers))

    def _servers_of(self, zone: str) -> list[Address]:
        """IPv4 addresses of the zone's servers; asked once, as they do not move."""
        if zone not in self._found:
            names = [str(it.target) for it in _look_up(zone, "NS")]
            addresses = {str(it.address) for name in names for it in _look_up(name, "A")}
            if not addresses:
                raise Unavailable(
                    f"the name servers of {zone} cannot be found",
                    hint="is the zone delegated, and does this network have a resolver?",
                    code="no-name-server",
                )
            self._found[zone] = [(address, self._port) for address in sorted(addresses)]
        return self._found[zone]

    def _ask(self, server: Address, name: str, kind: str) -> Answer:
        told, problem = f"{server[0]}:{server[1]}", ""
        for _ in range(TRIES):
            try:
                return self._exchange(server, name, kind)
            except (dns.exception.DNSException, OSError) as error:
                problem = type(error).__name__
        return Answer(told, problem=problem)

    def _exchange(self, server: Address, name: str, kind: str) -> Answer:
        query = dns.message.make_query(name, kind)
        query.flags &= ~dns.flags.RD
        host, port = server
        answer, _ = dns.query.udp_with_fallback(
            query, host, timeout=self._timeout_seconds, port=port
        )
        return _read(f"{host}:{port}", answer, dns.rdatatype.from_text(kind))


def _look_up(name: str, kind: str) -> list[Any]:
    """By the system's resolver; nothing where that knows nothing: one of several may be gone."""
    try:
        return list(dns.resolver.resolve(name, kind, lifetime=LOOKUP_SECONDS))
    except dns.exception.DNSException:
        return []


def _read(server: str, answer: dns.message.Message, kind: dns.rdatatype.RdataType) -> Answer:
    """NXDOMAIN and an empty answer are answers; a refusal or a failure of the server is none."""
    code = answer.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Answer(server, problem=dns.rcode.to_text(code))
    if not answer.flags & dns.flags.AA:
        return Answer(server, problem="not authoritative")
    sets = [it for it in answer.answer if it.rdtype == kind]
    values = sorted(item.to_text().rstrip(".").lower() for it in sets for item in it)
    return Answer(server, tuple(values), max((it.ttl for it in sets), default=0))


def parse_address(text: str) -> Address:
    """ "127.0.0.1:5353" -> ("127.0.0.1", 5353). Raises BadInput (code "bad-address")."""
    host, _, port = text.rpartition(":")
    try:
        return str(ip_address(host.strip("[]"))), int(port)
    except ValueError:
        raise BadInput(
            f"expected an address and a port, such as 127.0.0.1:5353, found {text!r}",
            hint="LEEWARD_DNS names the one DNS server to ask; without it the zone's own are",
            code="bad-address",
        ) from None
