"""Where S3 is, told by the environment alone, or left to botocore."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalicelib.adapters.s3.ambient import ambient_proxy, of_environment

HERE = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}


def test_what_is_given_goes_before_what_is_set() -> None:
    assert of_environment(HERE, None, None) == ("eu-west-1", "http://127.0.0.1:1")
    assert of_environment(HERE, "us-east-1", "http://s3") == ("us-east-1", "http://s3")
    own = HERE | {"AWS_ENDPOINT_URL_S3": "http://own"}
    assert of_environment(own, None, None) == ("eu-west-1", "http://own")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://s3.eu-west-1.amazonaws.com", ""),
        ("https://s3.amazonaws.com", ""),
        *[
            (address, address)
            for address in (
                "https://bucket.vpce-0a1b-c2d3.s3.eu-west-1.vpce.amazonaws.com",
                "https://s3.dualstack.eu-west-1.amazonaws.com",
                "https://s3-fips.eu-west-1.amazonaws.com",
                "https://s3.us-west-2.amazonaws.com",
            )
        ],
    ],
)
def test_only_what_is_the_usual_address_is_left_out(address: str, told: str) -> None:
    """A network without a way to the internet reaches its own endpoint alone."""
    here = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL_S3": address}
    assert of_environment(here, None, None) == ("eu-west-1", told)


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_USE_FIPS_ENDPOINT"])
def test_what_more_is_set_is_left_to_botocore(name: str) -> None:
    assert of_environment(HERE | {name: "x"}, None, None) is None


def test_without_a_region_botocore_looks_for_one() -> None:
    assert of_environment({"AWS_ENDPOINT_URL": "http://s3"}, None, None) is None


def test_aws_itself_is_found_alone_where_no_file_says_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    region = {"AWS_DEFAULT_REGION": "eu-west-1"}
    assert of_environment(region, None, None) == ("eu-west-1", "")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").touch()
    assert of_environment(region, None, None) is None


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, ""),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".amazonaws.com"}, ""),
        ({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "elsewhere"}, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, ""),
    ],
)
def test_a_proxy_is_the_one_that_is_set(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ambient_proxy("b.s3.eu-west-1.amazonaws.com") == proxy
