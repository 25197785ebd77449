"""Points of folders that are damaged, older, or in the way: what a restore takes and refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chalicelib.errors import BadInput, Damaged, NotReady, OutsideWindow, Quarantined, Refused
from chalicelib.recover.folder.restore import verify_files
from tests.shelves import CLOCK, Shelf, damage, fill
from tests.shelves import shelf as shelf


@pytest.mark.parametrize("name", ["files.tar.zst", "files.jsonl.zst"])
@pytest.mark.parametrize("how", ["flipped", "last", "short", "empty", "longer"])
def test_damage_is_found_and_nothing_is_left(
    shelf: Shelf, tmp_path: Path, name: str, how: str
) -> None:
    fill(shelf.source)
    point = shelf.take()
    damage(shelf, f"points/{point.id}/{name}", how)
    check = verify_files(shelf.store, point, clock=CLOCK)
    assert not check.ok
    assert name in check.found or "sha-256" in check.found
    with pytest.raises(Damaged):
        shelf.restore(tmp_path / "back")
    assert [it.name for it in tmp_path.iterdir()] == ["source"]
    with pytest.raises(Quarantined):
        shelf.restore(tmp_path / "back")


def test_a_missing_object_is_no_point(shelf: Shelf, tmp_path: Path) -> None:
    point = shelf.take()
    shelf.store.delete(f"points/{point.id}/files.jsonl.zst")
    with pytest.raises(OutsideWindow):
        shelf.restore(tmp_path / "back")
    with pytest.raises(Damaged, match="files.jsonl.zst"):
        shelf.restore(tmp_path / "back", point_id=point.id)


def test_the_older_point_is_taken_when_the_newer_is_damaged(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.source / "a").write_text("older")
    older = shelf.take()
    (shelf.source / "a").write_text("newer")
    newer = shelf.take()
    damage(shelf, f"points/{newer.id}/files.tar.zst", "flipped")
    found = shelf.restore(tmp_path / "back")
    assert (found.point_id, found.damaged) == (older.id, (newer.id,))
    assert (tmp_path / "back" / "a").read_text() == "older"


def test_a_named_point_and_one_of_before(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.source / "a").write_text("older")
    older = shelf.take()
    (shelf.source / "a").write_text("newer")
    shelf.take()
    shelf.restore(tmp_path / "named", point_id=older.id)
    shelf.restore(tmp_path / "before", before=older.finished_at)
    assert (tmp_path / "named" / "a").read_text() == "older"
    assert (tmp_path / "before" / "a").read_text() == "older"
    with pytest.raises(BadInput, match="unknown"):
        shelf.restore(tmp_path / "x", point_id="unknown")
    with pytest.raises(OutsideWindow):
        shelf.restore(tmp_path / "x", before=older.taken_at.replace(year=2001))


def test_a_folder_that_holds_something_is_refused_or_moved_aside(
    shelf: Shelf, tmp_path: Path
) -> None:
    (shelf.source / "a").write_text("a")
    shelf.take()
    target = tmp_path / "back"
    target.mkdir()
    shelf.restore(target)
    (target / "mine").write_text("mine")
    with pytest.raises(Refused) as caught:
        shelf.restore(target)
    assert caught.value.instance_code == "folder-not-empty"
    found = shelf.restore(target, replace=True)
    assert [it.name for it in target.iterdir()] == ["a"]
    assert sorted(it.name for it in Path(found.before).iterdir()) == ["a", "mine"]


def test_a_mount_point_is_refused(shelf: Shelf) -> None:
    shelf.take()
    with pytest.raises(Refused) as caught:
        shelf.restore(Path("/dev"), replace=True)
    assert caught.value.instance_code == "folder-is-mount"


def test_a_disk_without_room(shelf: Shelf, tmp_path: Path) -> None:
    point = shelf.take()
    huge = replace(point, id="20261122T084500Z-archive", source_bytes=1 << 60)
    shelf.store.delete(f"points/{point.id}/manifest.json")
    shelf.catalogue.add(huge)
    with pytest.raises(NotReady) as caught:
        shelf.restore(tmp_path / "back")
    assert caught.value.instance_code == "no-disk-space"
    assert not (tmp_path / "back").exists()
