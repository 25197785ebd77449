"""`systemctl` on a host of the local cloud: asks its first process (host_init.py).

Run as `python host_systemctl.py FOLDER VERB [OPTION...] [UNIT...]`; options are accepted and
ignored but for --now, which also starts or stops.
"""

from __future__ import annotations

import json
import os
import socket
import sys

SOCKET = "init.sock"


def ask(verb: str, units: list[str]) -> int:
    """Its exit status; what it says goes to standard output, or to standard error."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET)
        with connection.makefile("rwb") as file:
            file.write(json.dumps({"verb": verb, "units": units}).encode() + b"\n")
            file.flush()
            answer = json.loads(file.readline())
    failed = answer["status"] and verb in ("start", "stop", "restart", "enable", "disable")
    if answer["text"]:
        print(answer["text"], file=sys.stderr if failed else sys.stdout)  # noqa: T201
    return int(answer["status"])


def main() -> int:
    os.chdir(sys.argv[1])
    words = [word for word in sys.argv[2:] if not word.startswith("-")]
    verb, units = words[0], words[1:]
    status = ask(verb, units)
    if "--now" in sys.argv and not status and verb in ("enable", "disable"):
        status = ask("start" if verb == "enable" else "stop", units)
    return status


if __name__ == "__main__":
    sys.exit(main())
