"""All of AWS is gone; a copy in another cloud and the offline key are left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.sealing.key_ring import KeyRing
from chalicelib.adapters.sealing.kms_keys import KmsKey, connect_kms, region_of
from chalicelib.adapters.sealing.offline_keys import OfflinePublicKey
from chalicelib.adapters.sealing.store import SealedStore
from chalicelib.errors import Unavailable
from leeward.local.cloud import LocalCloud
from tests.fakes_keys import PUBLIC_PEM, make_key_in_two_regions, offline_opener

CONTENT = os.urandom(3 << 20) + b"end"
NAME = "points/20261122T020000Z-full/base.tar.zst"


def test_kms_lost_in_both_regions_the_offline_key_restores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    store = FolderObjectStore(tmp_path)

    def copies(recipients: list[KmsKey | OfflinePublicKey], openers: list[KmsKey]) -> SealedStore:
        ring = KeyRing(store, "gcs/db", clock=SystemClock(), recipients=recipients, openers=openers)
        return SealedStore(store, ring)

    with LocalCloud() as doomed:
        kms = [
            KmsKey(connect_kms(region_of(arn), doomed.url), arn)
            for arn in make_key_in_two_regions(doomed.client)
        ]
        with copies([*kms, OfflinePublicKey(PUBLIC_PEM)], kms).open_writer(NAME) as writer:
            writer.write(CONTENT)
            writer.commit()
        assert copies([], [kms[1]]).get(NAME) == CONTENT

    offline = offline_opener()
    with pytest.raises(Unavailable) as caught:
        copies([], kms).get(NAME)
    assert caught.value.instance_code == "no-key-fits"
    assert caught.value.context["recipients"] == [kms[0].name, kms[1].name, offline.name]
    assert b"".join(copies([], [*kms, offline]).read(NAME)) == CONTENT
