"""Whether anybody listens at an address: a TCP connection, told apart by how it fails."""

from __future__ import annotations

import errno
import socket
import time

from chalicelib.ports.infrastructure import Reach, Sighting

# The network's own word that nobody is there; everything else is silence.
NOBODY = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL}


def reach_tcp(host: str, port: int, *, within_seconds: float) -> Sighting:
    """Connect and close. The name server is asked first, and has no limit of its own."""
    began = time.monotonic()
    reach, found = _connect(host, port, within_seconds)
    return Sighting(f"tcp {host}:{port}", reach, found, round(time.monotonic() - began, 3))


def _connect(host: str, port: int, seconds: float) -> tuple[Reach, str]:
    try:
        socket.create_connection((host, port), seconds).close()
    except TimeoutError:
        return "silent", f"no connection in {seconds:g} s"
    except socket.gaierror as error:
        known = error.errno in (socket.EAI_NONAME, socket.EAI_FAIL)
        return ("refuses", "the name has no address") if known else ("silent", "no name server")
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "an error")
        return ("refuses" if error.errno in NOBODY else "silent"), f"the network says {name}"
    return "serves", "somebody listens"
