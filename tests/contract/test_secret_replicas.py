"""A secret that another region replicates is written to where that region does not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from chalicelib.adapters.secrets import SecretAddresses
from leeward.local.shims.secretsmanager import install

NAME = "artisttech/redis"
HOME, AWAY = "us-east-1", "us-west-2"


@pytest.fixture
def regions(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws(), install(None):  # type: ignore[arg-type]
        found = {name: boto3.client("secretsmanager", region_name=name) for name in (HOME, AWAY)}
        found[HOME].create_secret(Name=NAME, SecretString=json.dumps({"url": "redis://10.0.0.1"}))
        found[HOME].replicate_secret_to_regions(SecretId=NAME, AddReplicaRegions=[{"Region": AWAY}])
        yield found


def says(client: Any) -> str:
    return str(json.loads(client.get_secret_value(SecretId=NAME)["SecretString"])["url"])


def test_a_replica_is_read_and_refuses_to_be_written(regions: dict[str, Any]) -> None:
    assert says(regions[AWAY]) == "redis://10.0.0.1"
    with pytest.raises(ClientError) as refused:
        regions[AWAY].put_secret_value(SecretId=NAME, SecretString="{}")
    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"


def test_a_replica_is_made_a_secret_of_its_own_and_home_keeps_what_it_had(
    regions: dict[str, Any],
) -> None:
    away = SecretAddresses(regions[AWAY])
    arn = regions[AWAY].describe_secret(SecretId=NAME)["ARN"]
    assert away.replace(NAME, {"url": "redis://10.1.0.1"})
    assert says(regions[AWAY]) == "redis://10.1.0.1"
    before = regions[AWAY].get_secret_value(SecretId=NAME, VersionStage="AWSPREVIOUS")
    assert json.loads(before["SecretString"]) == {"url": "redis://10.0.0.1"}, "the way back"
    assert regions[AWAY].describe_secret(SecretId=NAME)["ARN"] == arn
    assert says(regions[HOME]) == "redis://10.0.0.1"
    assert not away.replace(NAME, {"url": "redis://10.1.0.2"}), "said once"
    assert says(regions[HOME]) == "redis://10.0.0.1", "nothing follows any more"


def test_a_secret_at_home_stays_replicated(regions: dict[str, Any]) -> None:
    assert not SecretAddresses(regions[HOME]).replace(NAME, {"url": "redis://10.0.0.2"})
    assert says(regions[AWAY]) == "redis://10.0.0.2"
