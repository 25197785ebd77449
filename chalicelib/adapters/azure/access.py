"""Who calls Azure Blob Storage: a registered application, a shared access signature, or a key."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from chalicelib.adapters.http.service import Access, HttpService, NoAccess, Patience, Request
from chalicelib.errors import NotReady, Refused

AZURE = "Azure Blob Storage"
LOGIN_URL = "https://login.microsoftonline.com"
VERSION = "2023-11-03"
RENEWED_SECONDS_BEFORE = 300
# In this order. Source: "Authorize with Shared Key", Azure's REST reference.
SIGNED_HEADERS = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


def connect_azure(
    login: Mapping[str, Any] | None, *, patience: Patience | None = None
) -> tuple[HttpService, str]:
    """The service and the address of the account, as AzureObjectStore takes them.

    Args:
        login: what the location's secret holds: "account", and "tenant_id", "client_id" and
            "client_secret", or "sas", or "account_key"; "endpoint_url" and "login_url" where they
            are not those of the public cloud.
    Raises:
        NotReady: there is none, or it is not complete (code "no-credentials").
    """
    given = dict(login or {})
    if not given.get("account"):
        raise _incomplete()
    public = f"https://{given['account']}.blob.core.windows.net"
    url = str(given.get("endpoint_url", public)).rstrip("/")
    return HttpService(AZURE, _access(given, patience), patience=patience), url


def _access(given: Mapping[str, Any], patience: Patience | None) -> Access:
    if given.get("client_secret"):
        return Application(given, patience)
    if given.get("sas"):
        return SharedSignature(str(given["sas"]))
    if given.get("account_key"):
        return AccountKey(str(given["account"]), str(given["account_key"]))
    raise _incomplete()


class SharedSignature:
    """A query that Azure issued, with rights and an end of its own."""

    def __init__(self, sas: str) -> None:
        self._query = sas.removeprefix("?")

    def sign(self, request: Request) -> None:
        request.headers["x-ms-version"] = VERSION
        request.url += ("&" if "?" in request.url else "?") + self._query

    def renew(self) -> bool:
        return False


class AccountKey:
    """Shared Key: an HMAC-SHA256 over the request with the account's key."""

    def __init__(self, account: str, key: str) -> None:
        try:
            self._account, self._key = account, b64decode(key, validate=True)
        except ValueError as error:
            raise _incomplete() from error

    def sign(self, request: Request) -> None:
        request.headers |= {"x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION}
        digest = hmac.digest(self._key, self._signed_text(request).encode(), hashlib.sha256)
        request.headers["Authorization"] = f"SharedKey {self._account}:{b64encode(digest).decode()}"

    def renew(self) -> bool:
        return False

    def _signed_text(self, request: Request) -> str:
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers["content-length"] = str(len(request.body) or "")
        own = sorted(name for name in headers if name.startswith("x-ms-"))
        lines = [request.method, *(headers.get(name, "") for name in SIGNED_HEADERS)]
        lines += [f"{name}:{headers[name]}" for name in own]
        return "\n".join([*lines, self._resource(request.url)])

    def _resource(self, url: str) -> str:
        parts = urlsplit(url)
        query = sorted(parse_qsl(parts.query, keep_blank_values=True))
        return "\n".join([f"/{self._account}{parts.path}", *(f"{k}:{v}" for k, v in query)])


class Application:
    """An application of Entra ID with a secret: a token of an hour, renewed before it ends."""

    def __init__(self, given: Mapping[str, Any], patience: Patience | None) -> None:
        if not given.get("tenant_id") or not given.get("client_id"):
            raise _incomplete()
        self._service = HttpService("Entra ID", NoAccess(), patience=patience)
        self._url = f"{given.get('login_url', LOGIN_URL)}/{given['tenant_id']}/oauth2/v2.0/token"
        self._form = {
            "grant_type": "client_credentials",
            "client_id": given["client_id"],
            "client_secret": given["client_secret"],
            "scope": "https://storage.azure.com/.default",
        }
        self._lock = threading.Lock()
        self._token = ""
        self._ends_at = 0.0

    def sign(self, request: Request) -> None:
        with self._lock:
            if time.monotonic() > self._ends_at - RENEWED_SECONDS_BEFORE:
                self._log_in()
        request.headers |= {"Authorization": f"Bearer {self._token}", "x-ms-version": VERSION}

    def renew(self) -> bool:
        with self._lock:
            self._log_in()
        return True

    def _log_in(self) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        form = urlencode(self._form).encode()
        answer = self._service.call(Request("POST", self._url, headers, form))
        if answer.status != 200:
            raise Refused(
                f"expected a login at Entra ID, found it refused (HTTP {answer.status})",
                code="access-denied",
                hint="Has the application's secret ended? Renew it in the location's secret.",
            )
        found = json.loads(answer.body)
        self._token = found["access_token"]
        self._ends_at = time.monotonic() + float(found["expires_in"])


def _incomplete() -> NotReady:
    return NotReady(
        f"expected an account and a way to log in for {AZURE}, found none that is complete",
        code="no-credentials",
        hint=(
            "Put account, tenant_id, client_id and client_secret (or account and sas, or account "
            "and account_key) into the secret that the location names."
        ),
    )
