"""One page over HTTP, asked for once, with a limit."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException

from chalicelib.errors import BadInput, Unavailable

MOST_BYTES = 64 << 10


def fetch_page(url: str, *, seconds: float) -> tuple[int, str]:
    """(status, the beginning of the page); a status of 400 and more is an answer too.

    Raises: BadInput (code "bad-url"); Unavailable (code "no-answer") when nobody answers in time.
    """
    if not url.startswith(("http://", "https://")):
        raise BadInput(
            f"expected an address http:// or https://, found {url!r}",
            hint="correct the address in the plan",
            code="bad-url",
        )
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return answer.status, answer.read(MOST_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(MOST_BYTES).decode(errors="replace")
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise Unavailable(
            f"expected {url} to answer within {seconds:.0f} s, found {reason}",
            hint="does the server run, and is it reachable from here?",
            code="no-answer",
        ) from error
