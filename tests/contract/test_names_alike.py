"""Names that differ by case alone, restored where they are one: refused by name, nothing blamed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.folder.tree import FolderTree
from chalicelib.adapters.git.bundle import GitBundles
from chalicelib.adapters.git.repository import GitRepository
from chalicelib.backup.take_files import take_files
from chalicelib.backup.take_git import take_git
from chalicelib.errors import BadInput, NotReady, Refused, Truncated
from chalicelib.plan.files import Selection
from chalicelib.recover.folder.rehearse import rehearse_files
from chalicelib.recover.folder.restore import restore_files
from chalicelib.recover.restore_git import restore_git, verify_git
from tests.contract.test_git import Shelf, commit, git
from tests.fakes import InMemoryObjectStore
from tests.folding import folding

CLOCK = SystemClock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderObjectStore]:
    with folding(tmp_path):
        yield FolderObjectStore(tmp_path / "store")


def two_files(root: Path) -> None:
    (root / "A.txt").write_text("1")
    (root / "a.txt").write_text("2")


def two_folders(root: Path) -> None:
    for name in ("Docs", "docs"):
        (root / name).mkdir()
        (root / name / name).write_text(name)


def two_forms(root: Path) -> None:
    (root / "caf\u00e9").write_text("1")
    (root / "cafe\u0301").write_text("2")


def a_link_and_a_file(root: Path) -> None:
    (root / "L").symlink_to("nowhere")
    (root / "l").write_text("1")


def no_text(root: Path) -> None:
    with open(os.fsencode(root) + b"/caf\xe9", "wb") as file:
        file.write(b"1")


@pytest.mark.skipif(os.path.exists(__file__.upper()), reason="such a folder cannot be made here")
@pytest.mark.parametrize(
    ("fill", "code", "named"),
    [
        (two_files, "names-alike", ("'A.txt'", "'a.txt'")),
        (two_folders, "names-alike", ("'Docs'", "'docs'")),
        (two_forms, "names-alike", ("'caf\u00e9'", "'cafe\u0301'")),
        (a_link_and_a_file, "names-alike", ("'L'", "'l'")),
        (no_text, "name-refused", (r"'caf\udce9'",)),
    ],
)
def test_a_folder_that_this_disk_cannot_hold_is_no_damage(
    tmp_path: Path, fill: Callable[[Path], None], code: str, named: tuple[str, ...]
) -> None:
    source, place = tmp_path / "source", tmp_path / "mac"
    source.mkdir()
    place.mkdir()
    fill(source)
    kept = InMemoryObjectStore()
    catalogue = StoredCatalogue(kept, "uploads")
    point = take_files(
        FolderTree(source), kept, catalogue, component="uploads", clock=CLOCK, selection=Selection()
    )
    (place / "tried").mkdir()
    with folding(place):
        with pytest.raises(NotReady) as refused:
            restore_files(kept, catalogue, place / "back", clock=CLOCK)
        with pytest.raises(NotReady) as rehearsed:
            rehearse_files(kept, point, place / "tried", clock=CLOCK)
    for caught in (refused, rehearsed):
        assert caught.value.instance_code == code
        assert all(name in caught.value.message for name in named)
    assert os.listdir(place) == ["tried"]
    assert not catalogue.holdings().standings[0].quarantined
    restore_files(kept, catalogue, tmp_path / "elsewhere", clock=CLOCK)


def test_a_store_keeps_one_of_two_keys_and_says_so(store: FolderObjectStore) -> None:
    store.put("A/x", b"first")
    for key in ("a/x", "A/X", "A/x/y"):
        for if_absent in (False, True):
            with pytest.raises(BadInput) as taken:
                store.put(key, b"other", if_absent=if_absent)
            assert taken.value.instance_code == "key-taken"
        for ask in (store.get, store.facts):
            with pytest.raises(Truncated):
                ask(key)
        assert [it.key for it in store.list(key)] == []
        store.delete(key)
    with pytest.raises(Refused):
        store.put("A/x", b"other", if_absent=True)
    assert store.get("A/x") == b"first"
    store.put("A/x", b"second")
    assert [(it.key, store.get(it.key)) for it in store.list()] == [("A/x", b"second")]
    store.delete("A/x")
    store.put("A/X", b"third")
    assert store.get("A/X") == b"third"


def test_of_keys_written_at_once_one_is_kept_whole(store: FolderObjectStore) -> None:
    said: list[str] = []

    def put(key: str) -> None:
        try:
            store.put(key, key.encode())
        except BadInput as error:
            said.append(error.instance_code)

    threads = [threading.Thread(target=put, args=(f"k/{it}",)) for it in "aAbBaAbB"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [it.key for it in store.list()]
    assert sorted(it.lower() for it in rows) == ["k/a", "k/b"]  # B comes before a
    assert [store.get(it) for it in rows] == [it.encode() for it in rows]
    assert said == ["key-taken"] * 4


@pytest.fixture
def folding_git(tmp_path: Path) -> GitBundles:
    """git as it is on such a disk, where `git init` finds this out and notes it."""
    program = tmp_path / "git-of-a-mac"
    program.write_text('#!/bin/sh\nexec git -c core.ignorecase=true "$@"\n')
    program.chmod(0o700)
    return GitBundles(str(program))


def files(source: Path) -> None:
    for name, text in (("Readme", "one\n"), ("README", "two\n")):
        (source / ".git" / "text").write_text(text)
        made = git(source, "hash-object", "-w", ".git/text")
        git(source, "update-index", "--add", "--cacheinfo", f"100644,{made},{name}")
    git(source, "commit", "--quiet", "-m", "both")


def branches(source: Path) -> None:
    git(source, "branch", "Feature")
    commit(source, "z", "z\n")
    git(source, "pack-refs", "--all")
    git(source, "branch", "feature")


def folders_of_branches(source: Path) -> None:
    git(source, "branch", "Feature/one")
    git(source, "pack-refs", "--all")
    git(source, "branch", "feature/two")


@pytest.mark.parametrize(
    ("fill", "named", "proven", "mirrored"),
    [
        (files, ("'README'", "'Readme'"), True, True),
        (branches, ("'refs/heads/Feature'", "'refs/heads/feature'"), False, False),
        (folders_of_branches, ("'refs/heads/Feature'", "'refs/heads/feature'"), False, False),
    ],
)
def test_a_repository_that_this_disk_cannot_hold_is_no_damage(
    tmp_path: Path,
    folding_git: GitBundles,
    fill: Callable[[Path], None],
    named: tuple[str, str],
    proven: bool,
    mirrored: bool,
) -> None:
    shelf = Shelf(tmp_path / "x")
    fill(shelf.source)
    point = take_git(
        GitRepository(shelf.url), shelf.store, shelf.catalogue, component="code", clock=CLOCK
    )

    def restore(name: str, *, mirror: bool) -> None:
        restore_git(
            shelf.store, shelf.catalogue, folding_git, tmp_path / name, clock=CLOCK, mirror=mirror
        )

    def prove() -> None:
        assert all(it.ok for it in verify_git(shelf.store, point, folding_git, clock=CLOCK))

    attempts: list[tuple[Callable[[], None], bool]] = [
        (lambda: restore("back", mirror=False), False),
        (lambda: restore("bare", mirror=True), mirrored),
        (prove, proven),
    ]
    for attempt, holds in attempts:
        if holds:
            attempt()
            continue
        with pytest.raises(NotReady) as caught:
            attempt()
        assert caught.value.instance_code == "names-alike"
        assert all(name in caught.value.message for name in named)
    assert not (tmp_path / "back").exists()
    assert not shelf.catalogue.holdings().standings[0].quarantined
    shelf.restore(tmp_path / "elsewhere")


def test_a_working_copy_that_cannot_be_written_is_no_damage(tmp_path: Path) -> None:
    """Its objects were all there when they were fetched."""
    shelf = Shelf(tmp_path / "x")
    shelf.take()
    program = tmp_path / "git-on-a-full-disk"
    program.write_text(
        '#!/bin/sh\nfor it; do [ "$it" != checkout ] || { echo "no space" >&2; exit 128; }; done\n'
        'exec git "$@"\n'
    )
    program.chmod(0o700)
    with pytest.raises(NotReady) as caught:
        restore_git(
            shelf.store, shelf.catalogue, GitBundles(str(program)), tmp_path / "back", clock=CLOCK
        )
    assert caught.value.instance_code == "not-checked-out"
    assert "no space" in caught.value.message
    assert not shelf.catalogue.holdings().standings[0].quarantined
