"""The dashboard: pages for people who signed in, and the forms on them.

What is shown comes from the function `show`; what is pressed goes to `answer`, with the one-time
code where it lets anything happen. Nothing here has rights to data.

A form counts when the browser sent it from a page of ours: the cookie goes with requests of the
same site alone, the origin is our own, and the form holds a token made of the session and its path.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from chalice.app import Blueprint, Response

from chalicelib.api.problems import status_of
from chalicelib.errors import BadInput, LeewardError, Refused
from chalicelib.telemetry import logger

if TYPE_CHECKING:
    from chalicelib.incidents.tokens import Claims
    from chalicelib.pages.render import Frame

routes = Blueprint(__name__)
FORM = "application/x-www-form-urlencoded"
# Of this host alone, on every path, over TLS; a browser takes 127.0.0.1 for as good.
COOKIE = "__Host-leeward"
COOKIE_SHAPE = "Path=/; Secure; HttpOnly; SameSite=Strict"
LARGEST_FORM = 16 * 1024
FIELDS = 20
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
)
SIGNED_OUT = ("no-token", "bad-token", "token-expired", "token-revoked")

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request for a page: who signed in, and what they want."""

    method: str
    path: str
    base: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    claims: Claims | None = None

    @property
    def person(self) -> str:
        return self.claims.subject if self.claims else ""

    @cached_property
    def fields(self) -> dict[str, str]:
        """Raises BadInput (codes "too-large", "bad-form")."""
        if len(self.body) > LARGEST_FORM:
            raise BadInput("the form is too large", hint="write less into it", code="too-large")
        try:
            found = parse_qs(self.body.decode(), keep_blank_values=True, max_num_fields=FIELDS)
        except ValueError:
            raise BadInput("expected a form", hint="press it again", code="bad-form") from None
        return {name: values[0] for name, values in found.items()}

    def token_of(self, path: str) -> str:
        """What a form for the path holds: of this session, and of no other."""
        from chalicelib.services.people.tokens import read_cookie

        session = read_cookie(self.headers, COOKIE)
        return hmac.new(session.encode(), path.encode(), hashlib.sha256).hexdigest()


@routes.route("/", methods=["GET"])
def overview() -> Response:
    from chalicelib.api.pages import show_overview

    return page(show_overview)


@routes.route("/incidents/{incident}", methods=["GET"])
def incident(incident: str) -> Response:
    from chalicelib.api.pages import show_incident

    return page(lambda asked: show_incident(asked, incident))


@routes.route("/incidents/{incident}/report", methods=["GET"])
def report(incident: str) -> Response:
    from chalicelib.api.pages import show_report

    return page(lambda asked: show_report(asked, incident))


@routes.route("/incidents/{incident}/answer", methods=["POST"], content_types=[FORM])
def answer(incident: str) -> Response:
    from chalicelib.api.pages import take_answer

    return page(lambda asked: take_answer(asked, incident))


@routes.route("/incidents/{incident}/acknowledgement", methods=["POST"], content_types=[FORM])
def acknowledge(incident: str) -> Response:
    from chalicelib.api.pages import take_acknowledgement

    return page(lambda asked: take_acknowledgement(asked, incident))


@routes.route("/backups/{component}", methods=["GET"])
def backups(component: str) -> Response:
    from chalicelib.api.pages import show_backups

    return page(lambda asked: show_backups(asked, component))


@routes.route("/exercises", methods=["GET"])
def exercises() -> Response:
    from chalicelib.api.pages import show_exercises

    return page(show_exercises)


@routes.route("/findings", methods=["GET"])
def findings() -> Response:
    from chalicelib.api.pages import show_findings

    return page(show_findings)


@routes.route("/actions", methods=["GET"])
def actions() -> Response:
    from chalicelib.api.pages import show_actions

    return page(show_actions)


@routes.route("/sign-in", methods=["GET"])
def sign_in() -> Response:
    """Looking at the link does not use it: whoever previews links in a chat does no more."""
    return page(
        lambda asked: sign_in_page(asked, link=asked.query.get("link", "")), open_to_all=True
    )


@routes.route("/sign-in", methods=["POST"], content_types=[FORM])
def redeem() -> Response:
    from chalicelib.api.pages import take_link

    return page(take_link, open_to_all=True)


@routes.route("/sign-out", methods=["POST"], content_types=[FORM])
def sign_out() -> Response:
    from chalicelib.api.pages import take_sign_out

    return page(take_sign_out)


def page(work: Callable[[Asked], Response], *, open_to_all: bool = False) -> Response:
    """What `work` answers for whoever is signed in; a page that says why not otherwise."""
    asked = _read_request()
    try:
        if not open_to_all:
            asked = _signed_in(asked)
        if asked.method == "POST":
            _require_own(asked, open_to_all=open_to_all)
        return work(asked)
    except LeewardError as error:
        logger.warning("refused", extra={"code": error.instance_code, "error": error.message})
        if error.instance_code in SIGNED_OUT:
            return sign_in_page(asked, error=None if error.instance_code == "no-token" else error)
        return problem_page(asked, error)


def _read_request() -> Asked:
    request = routes.current_request
    raw = request.raw_body
    base, path = _split(str(request.context.get("path") or "/"), str(request.path))
    return Asked(
        method=str(request.method),
        path=path,
        base=base,
        headers={name.lower(): value for name, value in request.headers.items()},
        query=dict(request.query_params or {}),
        body=raw.encode() if isinstance(raw, str) else raw,
    )


def _split(whole: str, route: str) -> tuple[str, str]:
    """The path of a request, as what stands before every path (the stage), and ours."""
    parts, ours = (list(filter(None, it.split("/"))) for it in (whole, route))
    stage = len(parts) - len(ours)
    return "".join(f"/{it}" for it in parts[:stage]), "/" + "/".join(parts[stage:])


def _signed_in(asked: Asked) -> Asked:
    """Raises Refused, with the codes of `require_token`."""
    from dataclasses import replace

    from chalicelib.services.people.tokens import require_token

    scope: Any = "act" if asked.method == "POST" else "read"
    return replace(asked, claims=require_token(asked.headers, scope, cookie=COOKIE))


def _require_own(asked: Asked, *, open_to_all: bool) -> None:
    """Raises Refused (code "foreign-form") for a form that no page of ours has sent."""
    origin = urlsplit(asked.headers.get("origin", "")).netloc
    same = asked.headers.get("sec-fetch-site", "same-origin") == "same-origin"
    sent = asked.fields.get("form", "")
    known = open_to_all or hmac.compare_digest(sent.encode(), asked.token_of(asked.path).encode())
    if not (origin == asked.headers.get("host", "-") and same and known):
        raise Refused(
            "the form did not come from a page of this dashboard, or from another sign-in",
            hint="open the page again and press it there",
            code="foreign-form",
        )


def frame_of(asked: Asked, *forms: str, refresh_seconds: int | None = None) -> Frame:
    """What is around a page; `forms`: the paths of the forms that it has besides sign-out."""
    from datetime import UTC, datetime

    from chalicelib.pages.render import Frame

    still = asked.query.get("still") == "1"
    return Frame(
        base=asked.base,
        now=datetime.now(UTC),
        person=asked.person,
        path=asked.path,
        tokens={path: asked.token_of(path) for path in ("/sign-out", *forms)},
        refresh_seconds=None if still else refresh_seconds,
        paused=still,
    )


def html(body: str, frame: Frame, status: int = 200, **more: str) -> Response:
    headers = _headers(frame) | {name.replace("_", "-"): value for name, value in more.items()}
    return Response(body, headers, status)


def _headers(frame: Frame) -> dict[str, Any]:
    from chalicelib.pages.render import style_source

    policy = (
        f"default-src 'none'; style-src {style_source()}; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    refresh = {"Refresh": f"{frame.refresh_seconds}; url={frame.base}{frame.path}"}
    return (
        SECURITY | {"Content-Security-Policy": policy} | (refresh if frame.refresh_seconds else {})
    )


# same-origin: without a referrer a browser sends forms with the origin "null".
SECURITY: dict[str, Any] = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000",
}


def redirect(asked: Asked, path: str, **more: str) -> Response:
    headers: dict[str, Any] = {"Location": f"{asked.base}{path}", "Cache-Control": "no-store"}
    return Response("", headers | {name.replace("_", "-"): it for name, it in more.items()}, 303)


def sign_in_page(asked: Asked, *, link: str = "", error: LeewardError | None = None) -> Response:
    from chalicelib.pages.notices import Notice
    from chalicelib.pages.render import render

    frame = frame_of(asked)
    said = Notice.of(error) if error else None
    here = "" if asked.method != "GET" or asked.path == "/sign-in" else asked.path
    body = render("sign-in.html", frame, link=link[:200], said=said, here=here)
    return html(body, frame, 200 if link else 401)


def problem_page(asked: Asked, error: LeewardError) -> Response:
    from chalicelib.pages.notices import Notice
    from chalicelib.pages.render import render

    frame = frame_of(asked)
    body = render("problem.html", frame, title="That did not work", said=Notice.of(error))
    return html(body, frame, status_of(error))
