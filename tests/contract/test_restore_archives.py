"""The archives of a base backup: nothing of them lies elsewhere, unlisted, or in memory at once."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from chalicelib.errors import Damaged
from chalicelib.recover.database.archive import DataFolder


def tar_of(*members: tuple[str, bytes, bytes]) -> Iterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content)
            info.linkname = "/etc" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info, io.BytesIO(content))
    yield buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("base/../../outside", tarfile.REGTYPE),
        ("/outside", tarfile.REGTYPE),
        ("base/link", tarfile.SYMTYPE),
        ("base/device", tarfile.CHRTYPE),
    ],
)
def test_an_archive_cannot_write_elsewhere(tmp_path: Path, name: str, kind: bytes) -> None:
    folder = DataFolder(tmp_path / "data")
    with pytest.raises(Damaged):
        folder.unpack(tar_of((name, kind, b"")), "base.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_checks_a_whole_archive_runs_at_its_end(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield from tar_of(("PG_VERSION", tarfile.REGTYPE, b"17"))
        yield bytes(512)
        raise Damaged("expected another digest", hint="Use another.", code="digest-mismatch")

    with pytest.raises(Damaged) as caught:
        DataFolder(tmp_path / "data").unpack(chunks(), "base.tar")
    assert caught.value.instance_code == "digest-mismatch"


def test_files_that_the_server_did_not_list_are_refused(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.unpack(tar_of(("PG_VERSION", tarfile.REGTYPE, b"17")), "base.tar")
    with pytest.raises(Damaged):
        folder.end_point(b'{"Files": []}', incremental=False)


def test_memory_does_not_grow_with_the_compression(tmp_path: Path) -> None:
    """256 MiB of zeros are 8 KiB of zstd; unpacked at once they would be 256 MiB of memory."""
    from chalicelib.recover.database.archive import decompress

    packed = zstandard.ZstdCompressor().compress(bytes(256 << 20))
    largest = max(len(piece) for piece in decompress(iter([packed]), "base"))
    assert largest <= 16 << 20
