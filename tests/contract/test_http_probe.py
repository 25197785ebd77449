"""Health probes against servers that really hang, refuse, dawdle, break and say the wrong thing."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.http.probe import HttpProber
from chalicelib.errors import BadInput, NotReady
from chalicelib.verify.probes import HealthPolicy, Target, verify_targets
from chalicelib.verify.service_watch import Watch, judge_watch, watch_targets

Talk = Callable[[socket.socket, int], None]
PROBER = HttpProber()
QUICK = HealthPolicy(within_seconds=0.5, pause_seconds=0.02, slow_seconds=0.1)


def answer(body: str, status: str = "200 OK", *more: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *more]
    return ("\r\n".join([*head, "", ""]) + body).encode()


@contextmanager
def server(talk: Talk, *, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server on a free port; `talk(connection, number)` says what it does, by connection."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    closing = threading.Event()

    def serve() -> None:
        for number in range(10_000):
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection, number), daemon=True).start()

    def one(connection: socket.socket, number: int) -> None:
        try:
            with tls.wrap_socket(connection, server_side=True) if tls else connection as talking:
                if talk is not hang:
                    talking.recv(65536)
                talk(talking, number)
        except OSError:
            pass

    def hang_until_closed(connection: socket.socket, number: int) -> None:
        closing.wait(10)

    if talk is hang:
        talk = hang_until_closed
    threading.Thread(target=serve, daemon=True).start()
    try:
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/health"
    finally:
        closing.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)  # closing it alone leaves its thread in accept()
        listening.close()


def hang(connection: socket.socket, number: int) -> None:
    """The server's own: connected, and never a byte."""


def says(data: bytes, *, after: float = 0.0) -> Talk:
    def talk(connection: socket.socket, number: int) -> None:
        time.sleep(after)
        connection.sendall(data)

    return talk


def drip(connection: socket.socket, number: int) -> None:
    """A byte of the head now and then: no timeout of a socket ever fires."""
    for letter in answer("x" * 1000):
        connection.sendall(bytes([letter]))
        time.sleep(0.05)


def drip_body(connection: socket.socket, number: int) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    for _ in range(200):
        connection.sendall(b"x")
        time.sleep(0.05)


def cut(connection: socket.socket, number: int) -> None:
    connection.sendall(answer("x" * 100)[:-50])


def close(connection: socket.socket, number: int) -> None:
    return


BAD = {
    "hangs": (hang, None),
    "drips its head": (drip, None),
    "drips its body": (drip_body, None),
    "closes at once": (close, None),
    "cuts its answer short": (cut, None),
    "fails": (says(answer("broken", "500 Internal Server Error")), 500),
    "is being mended": (says(answer("soon", "503 Service Unavailable")), 503),
    "sends elsewhere": (says(answer("", "302 Found", "Location: http://127.0.0.1:9/")), 302),
    "serves another page": (says(answer("<html>Welcome to nginx!</html>")), 200),
    "says that it is not": (says(answer('{"healthy": false, "is": "ready"}')), 200),
    "says so by its status": (says(answer('{"status": "DOWN", "is": "ready"}')), 200),
    "fails as the draft has it": (says(answer('{"status": "fail", "is": "ready"}')), 200),
    "is no HTTP server": (says(b"220 mail.example.org ESMTP\r\n"), None),
}


@pytest.mark.parametrize("name", BAD)
def test_a_server_that_does_not_serve_is_never_good_and_never_keeps_us(name: str) -> None:
    talk, status = BAD[name]
    began = time.monotonic()
    with server(talk) as address:
        found = PROBER.probe(address, says="ready", within_seconds=0.5)
    assert not found.good
    assert found.status == status
    assert time.monotonic() - began < 5  # the slow ones take twice that, or for ever


def test_what_is_wrong_is_said_in_a_few_words() -> None:
    said = {}
    for name, (talk, _) in BAD.items():
        with server(talk) as address:
            said[name] = PROBER.probe(address, says="ready", within_seconds=0.5).problem
    assert said["fails"] == "HTTP 500"
    assert said["serves another page"] == "HTTP 200 without 'ready'"
    assert said["says that it is not"] == "HTTP 200, and says itself that it is not healthy"
    assert said["says so by its status"] == said["says that it is not"]
    assert said["closes at once"] == "the connection broke before the answer"
    assert {said["hangs"], said["drips its head"]} <= {
        "no answer in 0.5 s",
        "connected, no answer in time",
    }


def test_nobody_listening_no_name_and_no_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert PROBER.probe(f"http://127.0.0.1:{port}/", says="", within_seconds=1).problem == (
        "nobody listens there"
    )
    found = PROBER.probe("http://nowhere.invalid/health", says="", within_seconds=3)
    assert found.problem in ("the name has no address", "no answer in 3 s")
    for address in ("ftp://host/", "host/health", "http://", "http://host:port/", ""):
        with pytest.raises(BadInput, match="expected an address such as"):
            PROBER.probe(address, says="", within_seconds=1)


def test_a_good_answer_says_how_long_it_took_to_its_end() -> None:
    with server(says(answer('{"healthy": true}'), after=0.2)) as address:
        found = PROBER.probe(address, says='"healthy": true', within_seconds=20)
    assert (found.good, found.status) == (True, 200)
    assert 0.2 <= found.seconds < 10


def test_a_certificate_must_hold(tmp_path: Path) -> None:
    good, other = certificate(tmp_path, "good"), certificate(tmp_path, "other")
    with server(says(answer("ready")), tls=good) as address:
        trusted = HttpProber(str(tmp_path / "good.crt"))
        assert trusted.probe(address, says="ready", within_seconds=2).good
        assert PROBER.probe(address, says="ready", within_seconds=2).problem == (
            "the certificate or its name does not hold"
        )
    with server(says(answer("ready")), tls=other) as address:
        assert (
            not HttpProber(str(tmp_path / "good.crt"))
            .probe(address, says="ready", within_seconds=2)
            .good
        )


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """Made by itself, for 127.0.0.1; `<name>.crt` is what to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    (folder / f"{name}.crt").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


def flaps(connection: socket.socket, number: int) -> None:
    status = "200 OK" if number % 2 == 0 else "500 Internal Server Error"
    connection.sendall(answer("ready", status))


def starts_late(connection: socket.socket, number: int) -> None:
    connection.sendall(answer("ready", "200 OK" if number > 3 else "503 Service Unavailable"))


def test_a_service_is_good_when_it_answered_well_three_times_in_a_row() -> None:
    with server(says(answer("ready"))) as steady, server(starts_late) as late:
        targets = [Target("api", steady), Target("web", late)]
        api, web = verify_targets(targets, PROBER, QUICK, clock=SystemClock(), limit_seconds=5)
    assert (api.ok, api.asked, api.in_a_row) == (True, 3, 3)
    assert (web.ok, web.asked, web.in_a_row) == (True, 7, 3)


def test_one_that_flaps_is_not_good_and_one_that_hangs_keeps_nobody_waiting() -> None:
    began = time.monotonic()
    with (
        server(flaps) as flapping,
        server(hang) as hanging,
        server(says(answer("ready"))) as steady,
    ):
        targets = [Target("a", flapping), Target("b", hanging), Target("c", steady)]
        a, b, c = verify_targets(targets, PROBER, QUICK, clock=SystemClock(), limit_seconds=1.5)
    assert (a.ok, b.ok, c.ok) == (False, False, True)
    assert a.problem == "HTTP 500"
    assert time.monotonic() - began < 10


def test_a_slow_one_is_good_and_is_said_to_be_slow() -> None:
    with server(says(answer("ready"), after=0.2)) as address:
        [found] = verify_targets(
            [Target("api", address)], PROBER, QUICK, clock=SystemClock(), limit_seconds=5
        )
    assert (found.ok, found.slow) == (True, True)


def test_nothing_to_ask_verifies_nothing() -> None:
    with pytest.raises(NotReady, match="found nothing to ask"):
        verify_targets([], PROBER, QUICK, clock=SystemClock(), limit_seconds=1)


def breaks_for_a_while(connection: socket.socket, number: int) -> None:
    if 5 <= number < 10:
        return
    connection.sendall(answer("ready"))


def test_a_watch_measures_speed_and_outages() -> None:
    clock = SystemClock()
    with server(breaks_for_a_while) as address, server(says(answer("ready"), after=0.15)) as slow:
        targets = [Target("api", address), Target("web", slow)]
        watch = Watch(clock.now())
        ends_at = watch.began_at + timedelta(seconds=3)
        watch = watch_targets(targets, PROBER, QUICK, watch, clock=clock, until=ends_at)
    api, web = judge_watch(watch, QUICK, ended_at=ends_at)
    assert api.verdict == "warning"
    assert 0.5 < api.longest_outage_seconds < 3
    assert api.answers * (1 - api.availability) == pytest.approx(5, abs=0.01)
    assert web.verdict == "warning"
    assert web.p95_seconds is not None
    assert web.p95_seconds >= 0.15
    again = Watch.from_json(json.loads(json.dumps(watch.to_json())))
    kept = judge_watch(again, QUICK, ended_at=ends_at)
    assert [it.verdict for it in kept] == ["warning", "warning"]
