"""What stands between here and AWS answers too: a proxy's page, with status 200.

botocore takes such a page, where JSON was expected, for an answer without any member: a write for
done, a condition for true, an item for missing.
"""

from __future__ import annotations

from typing import Any

from chalicelib.adapters.refusals import unreadable

# What every answer of a protocol begins with: an object, a map. Source: RFC 8949, major type 5.
OPENINGS = {"json": b"{", "smithy-rpc-v2-cbor": bytes(range(0xA0, 0xC0))}


def believing_json_alone(client: Any) -> Any:
    """The client, which raises Unavailable (code "answer-unreadable") for such a page."""
    client.meta.events.register("before-parse", _require_answer)
    return client


def _require_answer(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    model = operation_model.service_model
    opening = OPENINGS.get(model.resolved_protocol)
    if opening is None or response_dict["status_code"] >= 300:
        return
    begins = response_dict["body"].lstrip()[:1]
    if begins and begins not in opening:
        raise unreadable(model.service_name, operation_model.name)
