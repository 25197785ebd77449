"""A worker that is late ends itself.

When the time of a state is over, its machine goes on without the answer: a drill takes back what
the step did, people are told what is in effect. Nothing ends the Lambda for that: it works until
its own time-out, and what it did meanwhile nobody would take back. So it ends before its state
gives it up, and leaves word, so that no further attempt begins what was too long for this one.
Source: "TimeoutSeconds" of a Task state, Amazon States Language: the state fails, and that is all.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chalicelib.incidents.incident import Desk
from chalicelib.incidents.run import leave_word

# The table may be as silent as what the step waited for.
WORD_SECONDS = 3.0
STATUS = 1

log = logging.getLogger("leeward.late")


@contextmanager
def ends_when_late(event: dict[str, Any], *, desk: Desk) -> Iterator[None]:
    """End this process when the block still runs `event["within"]` seconds after it began; without
    that nobody waits for it in vain (a task, which hears it from its state), and nothing ends."""
    if "within" not in event:
        yield
        return
    timer = threading.Timer(float(event["within"]), _end, [event, desk])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(event: dict[str, Any], desk: Desk) -> None:
    try:
        log.error("%s is late, this worker ends", event["step"])
        word = threading.Thread(target=leave_word, args=[event], kwargs={"desk": desk}, daemon=True)
        word.start()
        word.join(WORD_SECONDS)
        sys.stdout.flush()
    finally:
        # Whatever failed; and not by an exception: the block may wait for an answer for ever.
        os._exit(STATUS)
