"""Archives that would write elsewhere, or are not what their list says."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from chalicelib.backup.tar_header import tar_header
from chalicelib.errors import Damaged
from chalicelib.plan.files import FileEntry, to_line
from chalicelib.plan.records import RecoveryPoint, StoredObject
from chalicelib.recover.folder.restore import verify_files
from tests.shelves import CLOCK, Shelf
from tests.shelves import shelf as shelf


def hostile(shelf: Shelf, *members: tuple[FileEntry, bytes]) -> None:
    """A point whose archive, list and manifest agree with each other, made by an attacker."""
    archive = b"".join(
        tar_header(entry) + content + bytes(-len(content) % 512) for entry, content in members
    )
    size = sum(len(content) for _, content in members)
    lines = [to_line({"format": "leeward-files-1"}), *(entry.to_line() for entry, _ in members)]
    totals = {"entries": len(members), "bytes": size, "skipped": 0}
    listing = b"".join([*lines, to_line({"totals": totals})])
    stored: list[StoredObject] = []
    for name, data in (("files.tar.zst", archive + bytes(10240)), ("files.jsonl.zst", listing)):
        packed = zstandard.ZstdCompressor().compress(data)
        stored.append(shelf.store.put(f"points/evil/{name}", packed))
    now = CLOCK.now()
    shelf.catalogue.add(
        RecoveryPoint(
            id="evil", component="uploads", kind="archive", taken_at=now, finished_at=now,
            objects=tuple(stored), source_bytes=size, encryption="none",
        )
    )  # fmt: skip


def entry(path: str, kind: str, content: bytes = b"", target: str = "") -> tuple[FileEntry, bytes]:
    digest = hashlib.sha256(content).hexdigest() if kind == "file" else ""
    made = FileEntry(
        path,
        kind,
        0o777,
        0,
        0,
        0,
        size_bytes=len(content),
        sha256=digest,
        target=target,  # type: ignore[arg-type]
    )
    return made, content


ROOT = entry(".", "folder")
EVIL = b"evil"


@pytest.mark.parametrize(
    "members",
    [
        [ROOT, entry("../out", "file", EVIL)],
        [ROOT, entry("/tmp/F-out", "file", EVIL)],
        [ROOT, entry("a/../../out", "file", EVIL)],
        [ROOT, entry("a", "symlink", target=".."), entry("a/out", "file", EVIL)],
        [ROOT, entry("a", "symlink", target="/tmp"), entry("a", "file", EVIL)],
        [ROOT, entry("a", "symlink", target="../victim"), entry("b", "hardlink", target="a")],
        [ROOT, entry("b", "hardlink", target="../victim")],
        [ROOT, entry("s", "symlink", target=".."), entry("b", "hardlink", target="s/victim")],
        [ROOT, entry("a", "file", EVIL), entry("a", "file", EVIL)],
        [ROOT, entry("a", "folder"), entry("b", "file", EVIL), entry("a/c", "file", EVIL)],
        [ROOT, entry(".", "symlink", target="/tmp")],
        [entry("a", "file", EVIL)],
    ],
    ids=lambda members: " ".join(f"{it.path}>{it.target}" for it, _ in members),
)
def test_an_archive_that_would_write_elsewhere(
    shelf: Shelf, tmp_path: Path, members: list[tuple[FileEntry, bytes]]
) -> None:
    (tmp_path / "victim").write_text("untouched")
    hostile(shelf, *members)
    with pytest.raises(Damaged) as caught:
        shelf.restore(tmp_path / "back")
    assert caught.value.instance_code == "path-outside"
    assert sorted(it.name for it in tmp_path.iterdir()) == ["source", "victim"]
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (tmp_path / "victim").stat().st_nlink == 1


def test_the_hostile_archive_of_these_tests_would_be_restored_if_it_were_not(
    shelf: Shelf, tmp_path: Path
) -> None:
    hostile(shelf, ROOT, entry("a", "file", EVIL), entry("b", "hardlink", target="a"))
    shelf.restore(tmp_path / "back")
    assert (tmp_path / "back" / "b").read_bytes() == EVIL


def other_archive(shelf: Shelf, point: RecoveryPoint, change: object) -> RecoveryPoint:
    """The point with its archive rewritten member by member, and a manifest that agrees."""
    key = f"points/{point.id}/files.tar.zst"
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(shelf.store.get(key))
    output = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(plain)) as old,
        tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in old:
            file = old.extractfile(member) if member.isfile() else None
            change(new, member, file.read() if file else b"")  # type: ignore[operator]
    stored = shelf.store.put(key, zstandard.ZstdCompressor().compress(output.getvalue()))
    return replace(point, objects=(stored, *point.objects[1:]))


def test_an_archive_that_is_not_what_the_list_says(shelf: Shelf) -> None:
    (shelf.source / "a").write_bytes(b"content")
    (shelf.source / "b").write_bytes(b"other")
    point = shelf.take()

    def copy(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        new.addfile(member, io.BytesIO(content))

    def swap(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        copy(new, member, b"CONTENT" if member.name == "a" else content)

    def leave_out(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        if member.name != "b":
            copy(new, member, content)

    def add(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        copy(new, member, content)
        if member.name == "b":
            copy(new, tarfile.TarInfo("extra"), b"")

    def open_up(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        member.mode |= 0o4002
        copy(new, member, content)

    original = shelf.store.get(f"points/{point.id}/files.tar.zst")
    for change, named in ((swap, "'a'"), (leave_out, "'b'"), (add, "'extra'"), (open_up, "'.'")):
        shelf.store.objects[f"points/{point.id}/files.tar.zst"] = original
        check = verify_files(shelf.store, other_archive(shelf, point, change), clock=CLOCK)
        assert not check.ok
        assert named in check.found
    shelf.store.objects[f"points/{point.id}/files.tar.zst"] = original
    assert verify_files(shelf.store, other_archive(shelf, point, copy), clock=CLOCK).ok


def test_a_list_that_is_not_whole(shelf: Shelf) -> None:
    """With an archive and a manifest that agree with what is left of it."""
    (shelf.source / "a").write_bytes(b"content")
    point = shelf.take()
    key = f"points/{point.id}/files.jsonl.zst"
    packed = shelf.store.get(key)
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(packed).splitlines(True)
    wrong = lines[-1].replace(b'"entries":2', b'"entries":3')
    for other in (
        lines[:-1], [*lines[:-1], wrong], lines[1:], [*lines, lines[-2]], [*lines[:-1], b"[]\n"],
        [*lines, b"{"], [lines[0], lines[0], *lines[1:]],
    ):  # fmt: skip
        stored = shelf.store.put(key, zstandard.ZstdCompressor().compress(b"".join(other)))
        forged = replace(point, objects=(point.objects[0], stored))
        assert not verify_files(shelf.store, forged, clock=CLOCK).ok
    stored = shelf.store.put(key, zstandard.ZstdCompressor().compress(b"".join(lines)))
    forged = replace(point, objects=(point.objects[0], stored))
    assert verify_files(shelf.store, forged, clock=CLOCK).ok
