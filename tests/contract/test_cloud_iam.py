"""Functions of the local cloud may do what their role allows, and every AWS call is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from leeward.local.cloud import LocalCloud
from leeward.local.iam import role_documents, unused_grants
from tests.clouds import CODE, create_function, create_role, invoke

TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """From a working tree: the interpreter's own libraries are there, boto3 among them."""
    folder: Path = tmp_path_factory.mktemp("tree")
    (folder / "app.py").write_text(CODE)
    with LocalCloud(source=folder) as started:
        role = create_role(
            started,
            "one-table",
            {
                "Effect": "Allow",
                "Action": ["dynamodb:PutItem", "dynamodb:GetItem", "dynamodb:DeleteItem"],
                "Resource": TABLE + "mine",
            },
        )
        create_function(started, "remember", role)
        for name in ("mine", "other"):
            started.client("dynamodb").create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        yield started


def test_what_the_role_allows_is_done(cloud: LocalCloud) -> None:
    payload, error = invoke(cloud, "remember", {"table": "mine", "key": "a"})
    assert (payload, error) == ({"pk": {"S": "a"}}, None)


def test_what_the_role_does_not_allow_fails_as_in_aws_and_is_not_done(cloud: LocalCloud) -> None:
    payload, error = invoke(cloud, "remember", {"table": "other", "key": "a"})
    assert error == "Unhandled"
    assert "(AccessDeniedException)" in payload["errorMessage"]
    assert "is not authorized to perform: dynamodb:PutItem" in payload["errorMessage"]
    assert cloud.client("dynamodb").scan(TableName="other")["Count"] == 0


def test_every_call_is_known_with_what_it_needed(cloud: LocalCloud) -> None:
    before = len(cloud.calls("remember"))
    invoke(cloud, "remember", {"table": "mine", "key": "b"})
    made = cloud.calls("remember")[before:]
    assert [it.operation for it in made] == ["PutItem", "GetItem"]
    assert [need.resource for it in made for need in it.needs] == [TABLE + "mine"] * 2
    documents = role_documents("arn:aws:iam::123456789012:role/one-table")
    assert unused_grants(documents, cloud.calls("remember")) == ["dynamodb:DeleteItem"]
