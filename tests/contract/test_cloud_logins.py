"""Logging in at Google and at Entra ID, against servers that answer as they do; a real SAS."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chalicelib.adapters.azure.access import VERSION, connect_azure
from chalicelib.adapters.azure.store import AzureObjectStore
from chalicelib.adapters.gcs.access import connect_gcs
from chalicelib.adapters.gcs.store import GcsObjectStore
from chalicelib.errors import Refused, Unavailable
from leeward.local.other_clouds import start_azure
from leeward.local.reaper import Reaper
from tests.stores import QUICK


class Cloud:
    """`/token...` hands out token-1, token-2, ...; everything else wants the newest."""

    def __init__(self) -> None:
        self.url = ""
        self.login_status = 200
        self.logins: list[dict[str, list[str]]] = []
        self.tokens_seen: list[str] = []

    def log_in(self, form: dict[str, list[str]]) -> tuple[int, bytes]:
        if self.login_status != 200:
            refused = b'{"error": "invalid_grant"}'
            return self.login_status, refused if self.login_status < 500 else b"<p>busy"
        self.logins.append(form)
        token = f"token-{len(self.logins)}"
        found = {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
        return 200, json.dumps(found).encode()

    def serve(self, token: str) -> int:
        self.tokens_seen.append(token)
        return 200 if token == f"Bearer token-{len(self.logins)}" else 401

    def forget_tokens(self) -> None:
        self.logins.append({})


@contextmanager
def cloud_with_logins() -> Iterator[Cloud]:
    cloud = Cloud()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.answer(*cloud.log_in(parse_qs(body)))

        def do_GET(self) -> None:
            self.answer(cloud.serve(self.headers.get("Authorization", "")), b"content")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield cloud
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with cloud_with_logins() as started:
        yield started


def google(cloud: Cloud) -> GcsObjectStore:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    login = {
        "type": "service_account",
        "client_email": "leeward@project.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "private_key_id": "1",
        "token_uri": f"{cloud.url}/token",
        "endpoint_url": cloud.url,
    }
    return GcsObjectStore(connect_gcs(login, patience=QUICK), "bucket")


def azure(cloud: Cloud) -> AzureObjectStore:
    login = {
        "account": "account",
        "tenant_id": "tenant",
        "client_id": "client",
        "client_secret": "secret",
        "login_url": cloud.url,
        "endpoint_url": cloud.url,
    }
    return AzureObjectStore(connect_azure(login, patience=QUICK), "bucket")


def google_by_aws(cloud: Cloud) -> GcsObjectStore:
    """Federation: AWS's own identity is shown to Google; no key of Google's is kept."""
    login = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/"
        "providers/aws",
        "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
        "token_url": f"{cloud.url}/token",
        "credential_source": {
            "environment_id": "aws1",
            "regional_cred_verification_url": "https://sts.{region}.amazonaws.com"
            "?Action=GetCallerIdentity&Version=2011-06-15",
        },
        "endpoint_url": cloud.url,
    }
    return GcsObjectStore(connect_gcs(login, patience=QUICK), "bucket")


@pytest.fixture(autouse=True)
def as_in_a_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


STORES = pytest.mark.parametrize("connect", [google, google_by_aws, azure])


@STORES
def test_one_login_serves_many_requests_until_it_is_refused(cloud: Cloud, connect: Any) -> None:
    store = connect(cloud)
    assert store.get("a") == store.get("b") == b"content"
    assert len(cloud.logins) == 1
    cloud.forget_tokens()
    assert store.get("c") == b"content"
    assert cloud.tokens_seen == ["Bearer token-1"] * 3 + ["Bearer token-3"]


@STORES
def test_a_refused_login_is_refused_access(cloud: Cloud, connect: Any) -> None:
    cloud.login_status = 400
    with pytest.raises(Refused) as caught:
        connect(cloud).get("a")
    assert caught.value.instance_code == "access-denied"


@STORES
def test_a_login_that_is_down_is_tried_again_later(cloud: Cloud, connect: Any) -> None:
    cloud.login_status = 503
    with pytest.raises(Unavailable) as caught:
        connect(cloud).get("a")
    assert caught.value.retryable


def test_what_is_sent_to_log_in(cloud: Cloud) -> None:
    google(cloud).get("a")
    azure(cloud).get("a")
    google_by_aws(cloud).get("a")
    asserted, form, exchanged = cloud.logins
    shown = json.loads(unquote(exchanged["subject_token"][0]))
    assert shown["url"].startswith("https://sts.us-east-1.amazonaws.com")
    claims = json.loads(urlsafe_b64decode(asserted["assertion"][0].split(".")[1] + "=="))
    assert claims["iss"] == "leeward@project.iam.gserviceaccount.com"
    assert claims["scope"] == "https://www.googleapis.com/auth/devstorage.read_write"
    assert form["grant_type"] == ["client_credentials"]
    assert form["scope"] == ["https://storage.azure.com/.default"]


def signature(account: str, key: str, resource: str, rights: str) -> str:
    """A shared access signature for one container. Source: "Create a service SAS", Azure."""
    ends_at = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = f"/blob/{account}/{resource}"
    fields = [rights, "", ends_at, name, "", "", "", VERSION, "c", "", "", "", "", "", "", ""]
    digest = hmac.digest(b64decode(key), "\n".join(fields).encode(), hashlib.sha256)
    return urlencode(
        {"sp": rights, "se": ends_at, "sv": VERSION, "sr": "c", "sig": b64encode(digest).decode()}
    )


def test_a_shared_access_signature_grants_what_it_says(tmp_path: Path) -> None:
    reaper = Reaper()
    reaper.start()
    try:
        emulator = start_azure(tmp_path, reaper)
        assert emulator is not None
        emulator.create_bucket("container")
        account, key = emulator.login["account"], emulator.login["account_key"]

        def store(rights: str) -> AzureObjectStore:
            sas = signature(account, key, "container", rights)
            url = emulator.login["endpoint_url"]
            login = {"account": account, "sas": f"?{sas}", "endpoint_url": url}
            return AzureObjectStore(connect_azure(login), "container")

        store("rcwl").put("k//1", b"content")
        assert [row.key for row in store("l").list()] == ["k//1"]
        with pytest.raises(Refused) as caught:
            store("r").put("k", b"")
        assert caught.value.instance_code == "access-denied"
    finally:
        reaper.stop()
    assert emulator.process.wait(10) is not None
