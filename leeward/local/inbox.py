"""Where messages arrive in the local cloud: a Slack, a PagerDuty and a webhook on loopback.

    with Inbox() as inbox:
        inbox.store_logins(cloud.client("secretsmanager"), plan)
        ...
        inbox.slack("#incident-drills"), inbox.alerts(), inbox.got

They take what the real ones take, refuse what those refuse (no login, no channel, a bad signature,
an event without its fields), and keep the state that a pager keeps: one alert for each key. E-mail
goes to SES and text messages to SNS, which the cloud has.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from chalicelib.plan.model import Plan
from leeward.local.serving import serve

SENDER = "leeward@example.org"
ACTIONS = {"trigger": "triggered", "acknowledge": "acknowledged", "resolve": "resolved"}


@dataclass(frozen=True)
class Post:
    """What came. kind: "slack", "pagerduty" or "webhook"."""

    kind: str
    body: dict[str, Any]


@dataclass
class Inbox:
    """`refusing`: kinds that answer HTTP 503 from now on. The keys are made anew each time."""

    refusing: set[str] = field(default_factory=set)
    got: list[Post] = field(default_factory=list)
    token: str = field(default_factory=lambda: f"xoxb-{secrets.token_hex(12)}")
    routing_key: str = field(default_factory=lambda: secrets.token_hex(16))
    drill_key: str = field(default_factory=lambda: secrets.token_hex(16))
    shared_key: str = field(default_factory=lambda: secrets.token_hex(16))

    def __enter__(self) -> Self:
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name that http.server calls
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, answer = inbox._take(self.path, headers, raw)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._end = serve(self._server)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def logins(self) -> dict[str, Any]:
        """What the secret of the channels holds (docs/messages.md)."""
        pager = {"url": f"{self.url}/v2/enqueue"}
        hook = {"url": f"{self.url}/hook", "key": self.shared_key}
        return {
            "slack": {"token": self.token, "url": f"{self.url}/api/"},
            "pagerduty": pager | {"routing_key": self.routing_key},
            "webhook": hook,
            "email": {"from": SENDER},
            "drill": {"pagerduty": pager | {"routing_key": self.drill_key}, "webhook": hook},
        }

    def store_logins(self, client: Any, plan: Plan, *mailers: Any) -> None:
        """Put the logins where the plan says, and let each client of sesv2 send from SENDER."""
        if plan.communication.secret:
            text = json.dumps(self.logins())
            client.create_secret(Name=plan.communication.secret, SecretString=text)
        for mailer in mailers:
            mailer.create_email_identity(EmailIdentity=SENDER)

    def slack(self, channel: str) -> list[str]:
        """The texts that came to a channel or person, oldest first."""
        posts = [it.body for it in list(self.got) if it.kind == "slack"]
        return [str(it["text"]) for it in posts if it["channel"] == channel]

    def alerts(self) -> dict[str, str]:
        """The pager's alerts by key: "triggered", "acknowledged" or "resolved"."""
        found: dict[str, str] = {}
        for post in list(self.got):
            if post.kind == "pagerduty":
                # A resolved alert stays so until it is triggered anew; only an open one is acked.
                action = str(post.body["event_action"])
                found[str(post.body["dedup_key"])] = ACTIONS[action]
        return found

    def _take(self, path: str, headers: dict[str, str], raw: bytes) -> tuple[int, dict[str, Any]]:
        kind = {"/api/chat.postMessage": "slack", "/v2/enqueue": "pagerduty", "/hook": "webhook"}
        taken = kind.get(path)
        if taken is None:
            return 404, {"error": "not_found"}
        if taken in self.refusing:
            return 503, {"error": "service_unavailable"}
        take = {"slack": self._slack, "pagerduty": self._pager, "webhook": self._webhook}[taken]
        return take(headers, raw)

    def _slack(self, headers: dict[str, str], raw: bytes) -> tuple[int, dict[str, Any]]:
        if headers.get("authorization") != f"Bearer {self.token}":
            return 200, {"ok": False, "error": "invalid_auth"}
        is_json = headers.get("content-type", "").startswith("application/json")
        body = json.loads(raw) if is_json else {k: v[0] for k, v in parse_qs(raw.decode()).items()}
        if str(body.get("channel", ""))[:1] not in ("#", "@", "C", "D", "U"):
            return 200, {"ok": False, "error": "channel_not_found"}
        if not body.get("text"):
            return 200, {"ok": False, "error": "no_text"}
        self.got.append(Post("slack", body))
        return 200, {"ok": True, "ts": f"{len(self.got)}.000100", "channel": body["channel"]}

    def _pager(self, headers: dict[str, str], raw: bytes) -> tuple[int, dict[str, Any]]:
        body = json.loads(raw)
        known = body.get("routing_key") in (self.routing_key, self.drill_key)
        needed = ("summary", "source", "severity")
        complete = all(body.get("payload", {}).get(name) for name in needed)
        if not known or body.get("event_action") not in ACTIONS or not complete:
            return 400, {"status": "invalid event", "message": "Event object is invalid"}
        self.got.append(Post("pagerduty", body))
        return 202, {"status": "success", "dedup_key": body["dedup_key"]}

    def _webhook(self, headers: dict[str, str], raw: bytes) -> tuple[int, dict[str, Any]]:
        at = headers.get("x-leeward-timestamp", "")
        text = f"v1:{at}:".encode() + raw
        wanted = f"v1={hmac.new(self.shared_key.encode(), text, hashlib.sha256).hexdigest()}"
        if not hmac.compare_digest(wanted, headers.get("x-leeward-signature", "")):
            return 401, {"error": "bad signature"}
        self.got.append(Post("webhook", json.loads(raw)))
        return 200, {"ok": True}
