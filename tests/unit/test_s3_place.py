"""Where a bucket's requests go, and how long a failing server is waited for."""

from __future__ import annotations

import pytest

from chalicelib.adapters.s3.place import Patience, Place


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Place("uploads", "eu-west-1"), ("https://uploads.s3.eu-west-1.amazonaws.com", "")),
        # The certificate is for one label before s3.
        (Place("my.uploads", "eu-west-1"), ("https://s3.eu-west-1.amazonaws.com", "/my.uploads")),
        (Place("uploads", "cn-north-1"), ("https://uploads.s3.cn-north-1.amazonaws.com.cn", "")),
        (Place("uploads", "any", "http://127.0.0.1:1/"), ("http://127.0.0.1:1", "/uploads")),
    ],
)
def test_an_address_is_virtual_hosted_in_aws_alone(place: Place, expected: tuple[str, str]) -> None:
    assert place.address() == expected


def test_pauses_grow_and_together_last_half_a_minute() -> None:
    patience = Patience()
    pauses = [patience.pause(failures) for failures in range(1, patience.attempts)]
    assert pauses[0] <= 0.1
    assert max(pauses) <= patience.longest_pause_seconds
    assert 20 < sum(pauses) < 60
