"""A folder as one tar archive and a list of its files with digests, in constant memory.

Order: archive, list, manifest. What changed while it was read is read again and, if it never
holds still, named in the list and in the point's note. What cannot be read makes the backup fail:
a point without it would look whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace

from chalicelib.backup.point_objects import PackedWriter, PointObjects, free_point_id
from chalicelib.backup.tar_header import BLOCK_BYTES, tar_header
from chalicelib.errors import CheckFailed, NotReady
from chalicelib.plan.files import (
    FORMAT,
    EntryState,
    EntryType,
    FileEntry,
    Selection,
    to_line,
)
from chalicelib.plan.records import RecoveryPoint
from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.ports.sources import FileTree, OpenFile, TreeNode

ARCHIVE_NAME = "files.tar.zst"
LIST_NAME = "files.jsonl.zst"
# A file of this size or less is read into memory and stored when it held still.
READ_BYTES = 1 << 18
ATTEMPTS = 3
# Two blocks of zeros end an archive; GNU tar fills up to its record.
RECORD_BYTES = 20 * BLOCK_BYTES
NAMED = 5
Progress = Callable[[int], None]


def take_files(
    tree: FileTree,
    store: ObjectStore,
    catalogue: Catalogue,
    *,
    component: str,
    clock: Clock,
    selection: Selection | None = None,
    required: Collection[str] = (),
    progress: Progress = lambda _: None,
) -> RecoveryPoint:
    """Take one recovery point of a folder and enter it into the catalogue.

    Modes, owners, times, symlinks, hard links and empty folders are kept; extended attributes
    and access control lists are not; sockets, FIFOs and devices are left out and counted in the
    note.

    Args:
        store: the component's own objects.
        required: patterns as the selection's, each of which must name something: a point without
            it would look whole. A symlink is nothing, as what it leads to is not taken.
        progress: told the bytes of content as they are read.
    Raises:
        CheckFailed: code "files-unreadable", after the whole tree was looked at; nothing stays.
        NotReady: code "no-folder"; "paths-missing", after the whole tree was looked at.
    """
    taken_at = clock.now()
    chosen = selection or Selection()
    with PointObjects(store, free_point_id(store, clock, "archive")) as objects:
        job = _Job(
            tree,
            chosen,
            objects.open_packed(ARCHIVE_NAME),
            objects.open_packed(LIST_NAME),
            progress,
            unseen=_each(required),
            bare=_each(required),
        )
        job.run()
        objects.commit(job.archive)
        objects.commit(job.listing)
        point = RecoveryPoint(
            id=objects.point_id,
            component=component,
            kind="archive",
            taken_at=taken_at,
            finished_at=clock.now(),
            objects=objects.stored,
            source_bytes=job.tally.bytes,
            encryption=store.encryption,
            note=job.tally.note(),
        )
        catalogue.add(point)
    return point


@dataclass
class _Tally:
    entries: int = 0
    bytes: int = 0
    skipped: int = 0
    gone: int = 0
    torn: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)

    def note(self) -> str:
        said = []
        if self.torn:
            said.append(f"{len(self.torn)} files changed while they were read: {_some(self.torn)}")
        if self.skipped:
            said.append(f"{self.skipped} sockets, fifos or devices left out")
        if self.gone:
            said.append(f"{self.gone} files were removed meanwhile")
        if self.bare:
            said.append(f"no file in {_some(self.bare)}: is it mounted?")
        return "; ".join(said)


@dataclass
class _Job:
    tree: FileTree
    selection: Selection
    archive: PackedWriter
    listing: PackedWriter
    progress: Progress
    # Patterns of which nothing was seen yet; those of which nothing but folders was.
    unseen: dict[str, Selection]
    bare: dict[str, Selection]
    tally: _Tally = field(default_factory=_Tally)
    # The path of the member that holds the content of a file with several names.
    _linked: dict[tuple[int, int], str] = field(default_factory=dict)
    # Folders that were seen and are stored only if something in them is.
    _waiting: list[TreeNode] = field(default_factory=list)

    def run(self) -> None:
        head = {"format": FORMAT, "root": self.tree.name}
        self._list({**head, **vars(self.selection)})
        for node in self.tree.walk(self.selection.enters):
            self._take(node)
        self._require_readable()
        self._require_seen()
        self.tally.bare = [*self.bare]
        totals = {"entries": self.tally.entries, "bytes": self.tally.bytes}
        self._list({"totals": {**totals, "skipped": self.tally.skipped}})
        self.archive.write(bytes(RECORD_BYTES))

    def _take(self, node: TreeNode) -> None:
        if node.type == "folder":
            self._take_folder(node)
        elif node.type == "unreadable":
            self.tally.unreadable.append(f"{node.path!r} ({node.why})")
        elif self.selection.takes(node.path):
            self._see(node)
            self._store_waiting(node)
            self._take_name(node)

    def _take_folder(self, node: TreeNode) -> None:
        self._waiting = [it for it in self._waiting if _lies_in(node, it)]
        self._waiting.append(node)
        if node.path == "." or self.selection.takes(node.path):
            self._see(node)
            self._store_waiting(node)

    def _see(self, node: TreeNode) -> None:
        if self.unseen and node.type != "symlink":
            self.unseen = _not_taking(self.unseen, node)
        if self.bare and node.type != "folder":
            self.bare = _not_taking(self.bare, node)

    def _store_waiting(self, node: TreeNode) -> None:
        for folder in self._waiting:
            if folder is node or _lies_in(node, folder):
                self._add(_entry(folder, "folder"))
        self._waiting = []

    def _take_name(self, node: TreeNode) -> None:
        if node.type == "other":
            self.tally.skipped += 1
            self._list({"skipped": node.path, "why": node.why})
        elif node.type == "symlink":
            self._add(replace(_entry(node, "symlink"), target=node.target))
        elif node.names > 1 and node.identity in self._linked:
            first = self._linked[node.identity]
            self._add(replace(_entry(node, "hardlink"), target=first))
        else:
            self._take_file(node)

    def _take_file(self, node: TreeNode) -> None:
        try:
            with self.tree.open(node) as file:
                # One that cannot be read is enough to fail; the others are then only tried.
                if not self.tally.unreadable:
                    self._read_file(file, node)
        except NotReady as error:
            if error.instance_code == "file-gone":
                self.tally.gone += 1
            else:
                self.tally.unreadable.append(f"{node.path!r} ({error.context['why']})")

    def _read_file(self, file: OpenFile, node: TreeNode) -> None:
        stored = None
        for attempt in range(1, ATTEMPTS + 1):
            facts = file.facts()
            if facts.size_bytes <= READ_BYTES:
                stored = self._store_small(file, facts, last=attempt == ATTEMPTS)
            else:
                stored = self._store_large(file, facts, last=attempt == ATTEMPTS)
            if stored is not None:
                break
            file.rewind()
        assert stored is not None, "the last attempt always stores"
        if stored.state == "torn":
            self.tally.torn.append(repr(stored.path))
        if node.names > 1:
            self._linked[node.identity] = stored.path

    def _store_small(self, file: OpenFile, facts: TreeNode, *, last: bool) -> FileEntry | None:
        """None when it changed and is to be read again; nothing was written then."""
        content = b"".join(_pieces(file, facts.size_bytes))
        digest = hashlib.sha256(content).hexdigest()
        state = _judge(file, facts, len(content), digest)
        if state == "torn" and not last:
            return None
        if missing := facts.size_bytes - len(content):
            content += bytes(missing)
            digest = hashlib.sha256(content).hexdigest()
        entry = replace(_entry(facts, "file"), sha256=digest, state=state)
        self._begin_file(entry)
        self.archive.write(content)
        self._end_file(entry)
        return entry

    def _store_large(self, file: OpenFile, facts: TreeNode, *, last: bool) -> FileEntry | None:
        """None when it changed: what was written stays in the archive, as superseded."""
        entry = _entry(facts, "file")
        self._begin_file(entry)
        digest, found = hashlib.sha256(), 0
        for piece in _pieces(file, facts.size_bytes):
            digest.update(piece)
            found += len(piece)
            self.archive.write(piece)
        state = _judge(file, facts, found, digest.hexdigest())
        # The member's size stands before its content: what is missing now is zeros.
        for piece in _zeros(facts.size_bytes - found):
            digest.update(piece)
            self.archive.write(piece)
        again = state == "torn" and not last
        entry = replace(entry, sha256=digest.hexdigest(), state="superseded" if again else state)
        self._end_file(entry)
        return None if again else entry

    def _begin_file(self, entry: FileEntry) -> None:
        self.archive.write(tar_header(entry))

    def _end_file(self, entry: FileEntry) -> None:
        self.archive.write(bytes(-entry.size_bytes % BLOCK_BYTES))
        self._count(entry)

    def _add(self, entry: FileEntry) -> None:
        self.archive.write(tar_header(entry))
        self._count(entry)

    def _count(self, entry: FileEntry) -> None:
        self.tally.entries += 1
        self.tally.bytes += entry.size_bytes
        self.listing.write(entry.to_line())
        self.progress(entry.size_bytes)

    def _list(self, fields: dict[str, object]) -> None:
        self.listing.write(to_line(fields))

    def _require_readable(self) -> None:
        if not self.tally.unreadable:
            return
        count = len(self.tally.unreadable)
        raise CheckFailed(
            f"expected to read everything in {self.tree.name}, could not read {count}: "
            f"{_some(self.tally.unreadable)}",
            code="files-unreadable",
            hint="Give the backup's account the right to read them, or exclude them by name.",
            unreadable=self.tally.unreadable[:1000],
        )

    def _require_seen(self) -> None:
        if not self.unseen:
            return
        raise NotReady(
            f"expected all that is to be taken of {self.tree.name}, found nothing of: "
            f"{_some(list(self.unseen))}",
            code="paths-missing",
            hint="Look whether it is mounted, or correct the path; of a symlink on the way to it, "
            "name what it leads to.",
        )


def _entry(node: TreeNode, kind: EntryType) -> FileEntry:
    return FileEntry(
        node.path, kind, node.mode, node.mtime_ns, node.uid, node.gid, node.owner, node.group,
        size_bytes=node.size_bytes if kind == "file" else 0,
    )  # fmt: skip


def _judge(file: OpenFile, before: TreeNode, found: int, digest: str) -> EntryState:
    """ "whole", "grew" or "torn", from what the file is after it was read."""
    after = file.facts()
    if found == before.size_bytes and after.version == before.version:
        return "whole"
    if found < before.size_bytes or after.size_bytes <= before.size_bytes:
        return "torn"
    # A log: what was read is what it held before, if that is still how it begins.
    file.rewind()
    again = hashlib.sha256()
    for piece in _pieces(file, before.size_bytes):
        again.update(piece)
    return "grew" if again.hexdigest() == digest else "torn"


def _pieces(file: OpenFile, size: int) -> Iterator[bytes]:
    """At most `size` bytes; fewer when the file ends before."""
    while size and (piece := file.read(min(size, READ_BYTES))):
        size -= len(piece)
        yield piece


def _zeros(size: int) -> Iterator[bytes]:
    while size:
        piece = bytes(min(size, READ_BYTES))
        size -= len(piece)
        yield piece


def _lies_in(node: TreeNode, folder: TreeNode) -> bool:
    return folder.path == "." or node.path.startswith(f"{folder.path}/")


def _each(patterns: Collection[str]) -> dict[str, Selection]:
    return {it: Selection(include=(it,)) for it in patterns}


def _not_taking(patterns: dict[str, Selection], node: TreeNode) -> dict[str, Selection]:
    return {name: one for name, one in patterns.items() if not one.takes(node.path)}


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
