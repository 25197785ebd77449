"""One HTTP POST with a limit on all of it: a receiver that hangs, or sends a byte now and then,
holds nobody up for longer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.client import HTTPException
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3

from chalicelib.errors import NotReady, Refused, Throttled, Unavailable

T = TypeVar("T")
LIMIT_SECONDS = 10.0
LARGEST_ANSWER = 64 * 1024
# What a receiver says when it has too much to do, or is broken itself.
LATER = frozenset({408, 425, 500, 502, 503, 504})


def post(
    url: str, body: bytes, headers: dict[str, str], *, whose: str, seconds: float = LIMIT_SECONDS
) -> bytes:
    """The body of a good answer. Redirects are not followed: a message goes where the plan says.

    Args:
        whose: the receiver, for errors; the address may hold a secret and stands in none.
    Raises:
        Throttled, Unavailable: later. Refused: code "message-refused". NotReady.
    """
    if urlsplit(url).scheme not in ("https", "http"):
        raise NotReady(
            f"expected the address of {whose} to begin with https, it does not",
            hint="correct it in the secret of the channels",
            code="bad-channel-address",
        )
    status, answer = within(seconds, whose, lambda: _post(url, body, headers, seconds))
    if status == 429:
        raise Throttled(f"{whose} says: not now (HTTP 429)", hint="it is tried again later")
    if status in LATER:
        raise Unavailable(f"{whose} answers HTTP {status}", hint="it is tried again later")
    if status >= 300:
        raise Refused(
            f"{whose} refuses the message: HTTP {status}",
            hint="look at the channel's address and login in the secret of the channels",
            code="message-refused",
            output=answer[:200].decode("utf-8", "replace"),
        )
    return answer


def _post(url: str, body: bytes, headers: dict[str, str], seconds: float) -> tuple[int, bytes]:
    # A pool of its own each time: messages are few, and a pool keeps what hung before.
    with urllib3.PoolManager(retries=False, timeout=seconds) as pool:
        answer = pool.request(
            "POST", url, body=body, headers=headers, redirect=False, preload_content=False
        )
        try:
            return answer.status, answer.read(LARGEST_ANSWER)
        finally:
            answer.close()


def within(seconds: float, whose: str, work: Callable[[], T]) -> T:
    """What `work` returns, if it does in time; it is left to itself when it does not.

    Raises:
        Unavailable: it took too long, or the network failed.
    """
    done: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except (urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    slow = failed and isinstance(failed[0], (urllib3.exceptions.TimeoutError, TimeoutError))
    if failed and not slow:
        raise Unavailable(
            f"{whose} cannot be reached: {type(failed[0]).__name__}",
            hint="it is tried again later; look at the network and the channel's address",
        ) from failed[0]
    if not done:
        raise Unavailable(
            f"{whose} did not answer within {seconds:.0f} s", hint="it is tried again later"
        )
    return done[0]
