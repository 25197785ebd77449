"""Our signatures are botocore's, whatever the key, the query and the headers."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.adapters.s3.signing import Credentials, Signer, encode_path, encode_query

AT = datetime(2026, 11, 22, 8, 30, 0, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)


def expected(
    method: str, path: str, query: str, headers: dict[str, str], credentials: Credentials
) -> str:
    url = f"https://bucket.s3.eu-west-1.amazonaws.com{path}{'?' if query else ''}{query}"
    request = AWSRequest(method=method, url=url, headers=headers)
    request.context["payload_signing_enabled"] = True
    keys = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.token)
    with mock.patch("botocore.auth.get_current_datetime", return_value=AT.replace(tzinfo=None)):
        S3SigV4Auth(keys, "s3", "eu-west-1").add_auth(request)
    return str(request.headers["Authorization"])


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"]),
    key=TEXT,
    query=st.dictionaries(NAMES, TEXT, max_size=4),
    headers=st.dictionaries(NAMES.map("x-amz-meta-".__add__), VALUES, max_size=3),
    token=st.sampled_from(["", "token/+="]),
)
@example("GET", "x/../y//z/./", {"prefix": "a b+c/ü", "versions": ""}, {}, "")
def test_the_signature_is_botocores(
    method: str, key: str, query: dict[str, str], headers: dict[str, str], token: str
) -> None:
    credentials = Credentials("AKIAEXAMPLE", "secret/key", token)
    path, encoded = encode_path(f"/{key}"), encode_query(list(query.items()))
    named = {"Host": "bucket.s3.eu-west-1.amazonaws.com", **headers}
    signed = Signer("eu-west-1", lambda: credentials).sign(method, path, encoded, named, at=AT)
    theirs = dict(headers)
    assert signed["Authorization"] == expected(method, path, encoded, theirs, credentials)


def test_credentials_are_asked_again_and_a_new_day_has_a_new_key() -> None:
    current = [Credentials("A", "one")]
    signer = Signer("us-east-1", lambda: current[0])

    def signature(at: datetime) -> str:
        return signer.sign("GET", "/", "", {"Host": "h"}, at=at)["Authorization"]

    before = signature(AT)
    assert signature(AT) == before
    assert signature(AT.replace(day=23)).partition("Signature=")[2] not in before
    current[0] = Credentials("B", "two")
    assert "Credential=B/" in signature(AT)
    current[0] = Credentials("A", "one")
    assert signature(AT) == before


@pytest.mark.parametrize("key", ["a//b", "./z", "x/../y", "dir/", "+ %&?#"])
def test_a_path_is_encoded_and_never_normalised(key: str) -> None:
    assert encode_path(f"/{key}") == "/" + "/".join(quote(p, safe="") for p in key.split("/"))
