"""What Google says during a resumable upload, where its emulator says something else."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Sequence

import google_crc32c
import pytest

from chalicelib.adapters.gcs.access import connect_gcs
from chalicelib.adapters.gcs.store import GcsObjectStore
from chalicelib.errors import DigestMismatch, Unavailable
from chalicelib.plan.records import StoredObject
from tests.s3_answers import answer, scripted_server
from tests.stores import QUICK

QUARTER = 1 << 18
DATA = os.urandom(3 * QUARTER)
KEPT = answer(308, b"", f"Range: bytes=0-{2 * QUARTER - 1}")
INVALID = {"error": {"code": 400, "errors": [{"domain": "global", "reason": "invalid"}]}}


def finished(data: bytes) -> bytes:
    checksum = b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    resource = {"size": str(len(data)), "crc32c": checksum, "generation": "7"}
    return answer(200, json.dumps(resource).encode())


def upload(said: Sequence[bytes], asked: list[str]) -> StoredObject:
    """Of three quarters of a MiB, in chunks of half; Google begins the session, then says that.

    The heads of the requests are put into `asked`.
    """
    answers: list[bytes] = []
    with scripted_server(answers) as google:
        google.asked = asked
        answers += [answer(200, b"{}", f"Location: {google.url}/session"), *said]
        service = connect_gcs({"endpoint_url": google.url}, patience=QUICK)
        store = GcsObjectStore(service, "bucket", chunk_bytes=2 * QUARTER)
        with store.open_writer("k") as writer:
            writer.write(DATA)
            return writer.commit()


def ranges(asked: list[str]) -> list[str]:
    found = (re.search("Content-Range: bytes (.*)", head) for head in asked)
    return [match[1] for match in found if match]


def test_a_chunk_that_was_kept_in_part_is_continued() -> None:
    half = f"Range: bytes=0-{QUARTER - 1}"
    asked: list[str] = []
    stored = upload([answer(308), answer(308, b"", half), KEPT, finished(DATA)], asked)
    assert stored.size_bytes == len(DATA)
    assert ranges(asked) == [
        "0-524287/*",
        "0-524287/*",
        "262144-524287/*",
        "524288-786431/786432",
    ]


def test_the_last_chunk_carries_the_digests_of_the_whole() -> None:
    asked: list[str] = []
    stored = upload([KEPT, finished(DATA), answer(200, b"{}")], asked)
    checksum = b64encode(google_crc32c.value(DATA).to_bytes(4, "big")).decode()
    assert f"X-Goog-Hash: crc32c={checksum}" in asked[2]
    assert f"X-Goog-Meta-sha256: {stored.sha256}" in asked[2]
    assert asked[3].startswith("PATCH")  # this Google took no metadata with the chunk


def test_bytes_that_google_finds_changed_are_a_mismatch() -> None:
    with pytest.raises(DigestMismatch):
        upload([KEPT, answer(400, json.dumps(INVALID).encode())], [])


def test_other_bytes_are_removed_before_anybody_reads_them() -> None:
    asked: list[str] = []
    with pytest.raises(DigestMismatch):
        upload([KEPT, finished(DATA[::-1]), answer(204)], asked)
    assert asked[-1].startswith("DELETE /storage/v1/b/bucket/o/k?generation=7")


@pytest.mark.parametrize("status", [404, 410])
def test_a_session_that_ended_is_to_be_begun_again(status: int) -> None:
    with pytest.raises(Unavailable):
        upload([answer(status)], [])


def test_a_google_that_keeps_nothing_is_not_asked_for_ever() -> None:
    with pytest.raises(Unavailable):
        upload([answer(308)], [])
