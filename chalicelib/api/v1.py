"""The JSON API below /v1, from the table of routes.

    token -> path, query, key, body -> `show`, or (once for each key) `answer` -> JSON

The function behind it has no rights to what it shows or does: `show` and `answer` have. A browser's
cookie is nothing here, so that no other page can ask in a person's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from chalice.app import Blueprint, Response

from chalicelib.api.problems import answered, problem, secured
from chalicelib.api.routes import DESCRIPTION, METHODS, Route, routes_by_path
from chalicelib.errors import BadInput, LeewardError, NotReady, Refused, Unavailable

if TYPE_CHECKING:
    from chalicelib.incidents.tokens import Claims

routes = Blueprint(__name__)
LARGEST_BODY = 16 * 1024
PAGE = 50
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,159}")
KEY = re.compile(r"[!-~]{8,128}")
TRUTH = {"true": True, "false": False}


def _register(path: str, own: Mapping[str, Route]) -> None:
    """Every method, so that what a path does not do is told as such."""

    def view(**named: str) -> Response:
        return secured(answered(lambda: _serve(path, own, named)))

    routes.route(path, methods=list(METHODS), content_types=["*/*"])(view)


for _path, _own in routes_by_path().items():
    _register(_path, _own)


@routes.route(DESCRIPTION, methods=["GET"])
def openapi() -> Response:
    return secured(answered(_describe))


def _describe() -> Response:
    _claims("read")
    from chalicelib.api.openapi import describe

    return Response(describe())


def _serve(path: str, own: Mapping[str, Route], named: Mapping[str, str]) -> Response:
    method = str(routes.current_request.method)
    if method not in own:
        allowed = ", ".join(own)
        return problem(
            BadInput(
                f"expected {allowed}, found {method}",
                hint="docs/api.md lists what each path does",
                code="method-not-allowed",
            ),
            headers={"Allow": allowed},
        )
    route = own[method]
    claims = _claims("act" if route.acts else "read")
    event = {**_named(named), **_query(route), **route.fixed, "verb": route.verb}
    return _act(route, event, claims) if route.acts else _show(route, event)


def _claims(scope: Any) -> Claims:
    from chalicelib.services.people.tokens import require_token

    return require_token(_headers(), scope)


def _headers() -> dict[str, str]:
    return {name.lower(): value for name, value in routes.current_request.headers.items()}


def _show(route: Route, event: dict[str, Any]) -> Response:
    from chalicelib.services.people.tokens import ask_show

    said = ask_show(event)
    more = said.get("next")
    link: dict[str, Any] = {"Link": f'<?{_next_query(event, more)}>; rel="next"'} if more else {}
    return Response(said, link, route.status)


def _next_query(event: Mapping[str, Any], cursor: str) -> str:
    from urllib.parse import urlencode

    kept = {name: event[name] for name in ("limit", "incident") if name in event}
    ended = {"ended": "true"} if event.get("ended") else {}
    return urlencode(kept | ended | {"cursor": cursor})


def _act(route: Route, event: dict[str, Any], claims: Claims) -> Response:
    key = _key()
    body = _body(route)
    person = claims.person
    if person is None:
        raise Refused(
            f"{claims.subject} is a program: it has no second factor, and agrees to nothing",
            hint="a person does this, with a token of their own and a one-time code",
            code="not-a-person",
        )
    from chalicelib.plan.records import digest_of
    from chalicelib.services.people.requests import do_once
    from chalicelib.services.people.tokens import ask_answer

    path = str(routes.current_request.context["path"])

    def work(request: str) -> dict[str, Any]:
        return _outcome(route, lambda: ask_answer({**body, **event, "by": person, "key": request}))

    digest = digest_of([path, body])
    answer, again = do_once(claims.subject, key, digest, work)
    headers = dict(answer["headers"]) | ({"Idempotency-Replayed": "true"} if again else {})
    return Response(answer["body"], headers, int(answer["status"]))


def _outcome(route: Route, say: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A refusal is kept as the answer; that nobody answered, or that a part is missing, is not."""
    try:
        return {"status": route.status, "body": say(), "headers": {}}
    except (Unavailable, NotReady):
        raise
    except LeewardError as error:
        told = problem(error)
        return {"status": told.status_code, "body": told.body, "headers": dict(told.headers)}


def _key() -> str:
    found = _headers().get("idempotency-key", "")
    if not KEY.fullmatch(found):
        raise BadInput(
            "expected the header Idempotency-Key with 8 to 128 letters, found none or another",
            hint="a new random one for each thing that is said, such as a UUID",
            code="no-idempotency-key",
        )
    return found


def _body(route: Route) -> dict[str, Any]:
    request = routes.current_request
    kind = _headers().get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise BadInput(
            f"expected a body of type application/json, found {kind[:100]!r}",
            hint="set Content-Type",
            code="not-json",
        )
    raw = request.raw_body
    data = raw.encode() if isinstance(raw, str) else raw
    if len(data) > LARGEST_BODY:
        raise BadInput(
            f"expected at most {LARGEST_BODY} bytes, found {len(data)}",
            hint="nothing that can be said here is that long",
            code="too-large",
        )
    return _validated(route.takes, data)


def _validated(model: str, data: bytes) -> dict[str, Any]:
    from pydantic import ValidationError

    from chalicelib.api.models import model_named

    try:
        found = model_named(model).model_validate_json(data)
    except ValidationError as error:
        wrong = [
            {"path": "".join(f"/{part}" for part in it["loc"])[:200], "found": it["msg"][:200]}
            for it in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise _bad_fields(wrong) from None  # its text holds what was sent, a code among it
    return found.model_dump(exclude_none=True)


def _bad_fields(wrong: list[dict[str, str]]) -> BadInput:
    return BadInput(
        f"expected a request as docs/openapi.json has it, found {len(wrong)} fields that are not",
        hint="look at `errors`; an unknown field is wrong too",
        code="bad-request",
        errors=wrong,
    )


def _named(named: Mapping[str, str]) -> dict[str, str]:
    """Names in the path; what can be none is not there."""
    for name, value in named.items():
        if not IDENTIFIER.fullmatch(value):
            raise BadInput(
                f"there is no {name} of that name",
                hint="the lists name them",
                code="not-found",
            )
    return dict(named)


def _query(route: Route) -> dict[str, Any]:
    given: Any = routes.current_request.query_params or {}
    unknown = [
        {"path": f"/{it[:100]}", "found": "unknown"} for it in given if it not in route.query
    ]
    if unknown:
        raise _bad_fields(unknown)
    event: dict[str, Any] = {"limit": PAGE} if "limit" in route.query else {}
    for name in given:
        values = given.getlist(name)
        event[name] = _value(name, values[-1]) if len(values) == 1 else None
        if event[name] is None:
            raise _bad_fields([{"path": f"/{name}", "found": "not as docs/openapi.json has it"}])
    return event


def _value(name: str, text: str) -> Any:
    """None when it is none of the parameter's."""
    if name == "limit":
        return int(text) if re.fullmatch(r"[0-9]{1,3}", text) and 1 <= int(text) <= 100 else None
    if name == "ended":
        return TRUTH.get(text)
    if name == "incident":
        return text if IDENTIFIER.fullmatch(text) else None
    return text
