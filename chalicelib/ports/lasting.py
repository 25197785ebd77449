"""Work on one object that outlives a process: digests that are put down, and how they are kept.

A state is one of the pinned version of rehashes: what another version wrote is not gone on with,
which costs the work done so far and nothing else. macOS has no rehashes: its digests are hashlib's,
and their states are gone on with by nobody. In Lambda it is always there.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from typing import Any, Literal

from chalicelib.errors import Unavailable

PUT_DOWN = "put-down"
VERSION = "0.3.0"
"""Of rehashes, as requirements.txt pins it."""
NO_STATE = "none:"

Data = bytes | bytearray | memoryview


class RunningDigest:
    """As one of hashlib, but for its `state`: a text with which another process goes on.

    Raises Unavailable (code "upload-gone") when a state is of another version.
    """

    def __init__(self, name: Literal["sha256", "md5"] = "sha256", state: str = "") -> None:
        if not state:
            self._inner = _begin(name)
            return
        version, _, kept = state.partition(":")
        kind = _lasting(name)
        if not is_state(state) or kind is None:
            raise upload_gone(f"the digest of version {version}")
        try:
            self._inner = kind.deserialize(b64decode(kept))
        except ValueError as error:
            raise upload_gone("no digest's state") from error

    def update(self, data: Data) -> None:
        self._inner.update(data if isinstance(data, bytes) else bytes(data))

    def hexdigest(self) -> str:
        lasting = hasattr(self._inner, "finalize")
        return str(self._inner.finalize() if lasting else self._inner.hexdigest())

    def digest(self) -> bytes:
        return bytes.fromhex(self.hexdigest())

    def state(self) -> str:
        if not hasattr(self._inner, "serialize"):
            return NO_STATE
        return f"{VERSION}:{b64encode(self._inner.serialize()).decode()}"


def _begin(name: Literal["sha256", "md5"]) -> Any:
    kind = _lasting(name)
    return kind() if kind else hashlib.new(name)


def _lasting(name: Literal["sha256", "md5"]) -> Any:
    """The class of rehashes; None where it is not installed."""
    # Here and not in an adapter: as hashlib, it touches nothing outside, and both the work and
    # the adapters carry its state on. It has no types of its own.
    try:
        import rehashes  # type: ignore[import-untyped]
    except ImportError:
        return None
    return {"sha256": rehashes.PySha256, "md5": rehashes.PyMd5}[name]


def is_state(state: str) -> bool:
    """Of the pinned version."""
    return state.partition(":")[0] == VERSION


def pack(facts: dict[str, Any], rest: Data = b"") -> bytes:
    """A checkpoint: one line of JSON, then bytes as they are."""
    return b"".join((json.dumps(facts).encode(), b"\n", rest))


def unpack(checkpoint: bytes) -> tuple[dict[str, Any], bytes]:
    """Raises Unavailable (code "upload-gone") for what is no checkpoint."""
    line, _, rest = checkpoint.partition(b"\n")
    try:
        facts = json.loads(line)
    except ValueError as error:
        raise upload_gone("no checkpoint") from error
    if not isinstance(facts, dict):
        raise upload_gone("no checkpoint")
    return facts, rest


def put_down(key: str, done_bytes: int, size_bytes: int) -> Unavailable:
    """Not a failure: the next run goes on."""
    return Unavailable(
        f"expected all {size_bytes} bytes of {key!r} to be copied in this run, found time for "
        f"{done_bytes}",
        code=PUT_DOWN,
        hint="The next run goes on from there.",
        key=key,
    )


def upload_gone(found: str) -> Unavailable:
    """What was begun cannot be gone on with."""
    return Unavailable(
        f"expected an upload to go on with, found {found}",
        code="upload-gone",
        hint="It is begun anew by itself; when it repeats, look who removes unfinished uploads.",
    )
