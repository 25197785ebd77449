"""An S3 server in memory with one bucket of many versions, which answers as late as S3 does.

    python -m bench.s3_versions PORT KEYS NOTES

It stands for S3 where a server on this machine would be the limit. Bucket `undo` held KEYS objects
in 97 folders at MOMENT. Of ten, five were deleted since, three overwritten; NOTES were put beside
them. `GET /state` tells what readers get and how many requests there were.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from bench.small_server import Request, serve

MOMENT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
BEFORE, SINCE = MOMENT - timedelta(hours=1), MOMENT + timedelta(minutes=5)
PAGE = 1000
# Seconds, as a client in the region sees them; a batch of deletions takes a while for each key.
LIST_SECONDS = 0.15
COPY_SECONDS = 0.08
SMALL_SECONDS = 0.025
BATCHED_SECONDS = 0.001
# Of ten objects: 0 is deleted, 1 overwritten, 2 left.
FATES = (0, 1, 0, 1, 0, 2, 0, 1, 0, 2)
NONE_SET = {
    "lifecycle": "NoSuchLifecycleConfiguration",
    "object-lock": "ObjectLockConfigurationNotFoundError",
}


@dataclass(frozen=True)
class Entry:
    """One version, or a delete marker without etag."""

    version_id: str
    at: datetime
    etag: str = ""
    size: int = 2048


@dataclass
class Versions:
    entries: dict[str, list[Entry]]
    names: list[str] = field(init=False)
    requests: int = 0
    numbers: count[int] = field(default_factory=lambda: count(10**9))

    def __post_init__(self) -> None:
        self.names = sorted(self.entries)

    async def answer(self, request: Request) -> tuple[int, str]:
        if request.path == "/state":
            return 200, json.dumps({"state": self.state(), "requests": self.requests})
        self.requests += 1
        key = request.name.removeprefix("/undo").removeprefix("/")
        if request.method == "GET":
            return await self._get(request)
        if request.method == "POST":
            return await self._delete_batch(request.body)
        if request.method == "PUT":
            return await self._copy(key, request.headers["x-amz-copy-source"])
        await asyncio.sleep(SMALL_SECONDS)
        self._put(key)
        return 204, ""

    def state(self) -> dict[str, str]:
        """Key -> ETag of what readers get."""
        return {key: found[0].etag for key, found in self.entries.items() if found[0].etag}

    async def _get(self, request: Request) -> tuple[int, str]:
        for name, code in NONE_SET.items():
            if name in request.query:
                return 404, f"<Error><Code>{code}</Code></Error>"
        if "versioning" in request.query:
            said = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            return 200, said
        await asyncio.sleep(LIST_SECONDS)
        query = request.query
        if "delimiter" in query and not query.get("prefix"):
            return 200, _folders(sorted({name[:3] for name in self.names}))
        markers = query.get("key-marker", ""), query.get("version-id-marker", "")
        return 200, self._page(query.get("prefix", ""), *markers)

    def _page(self, prefix: str, key: str, version_id: str) -> str:
        rows: list[str] = []
        last = ("", "")
        for name in self.names[bisect.bisect_left(self.names, max(prefix, key)) :]:
            if not name.startswith(prefix):
                break
            found = self.entries[name]
            ids = [entry.version_id for entry in found]
            if name == key and not version_id:
                continue
            done = ids.index(version_id) + 1 if name == key and version_id in ids else 0
            for place, entry in enumerate(found[done:], start=done):
                if len(rows) == PAGE:
                    return _listing(rows, *last)
                rows.append(_row(name, entry, place == 0))
                last = (name, entry.version_id)
        return _listing(rows, "", "")

    async def _delete_batch(self, body: bytes) -> tuple[int, str]:
        pairs = []
        for item in ElementTree.fromstring(body).iter():
            if item.tag.rpartition("}")[2] == "Object":
                fields = {child.tag.rpartition("}")[2]: child.text or "" for child in item}
                pairs.append((fields["Key"], fields.get("VersionId", "")))
        await asyncio.sleep(SMALL_SECONDS + BATCHED_SECONDS * len(pairs))
        for key, version_id in pairs:
            if version_id:
                kept = [it for it in self.entries[key] if it.version_id != version_id]
                self.entries[key] = kept
            else:
                self._put(key)
        done = "".join(_deleted(*pair) for pair in pairs)
        return 200, f"<DeleteResult>{done}</DeleteResult>"

    async def _copy(self, key: str, source: str) -> tuple[int, str]:
        path, _, version_id = unquote(source).partition("?versionId=")
        await asyncio.sleep(COPY_SECONDS)
        name = path.removeprefix("/").partition("/")[2]
        [found] = [it for it in self.entries[name] if it.version_id == version_id]
        self._put(key, found.etag, found.size)
        etag = f"&quot;{found.etag}&quot;"
        return 200, f"<CopyObjectResult><ETag>{etag}</ETag></CopyObjectResult>"

    def _put(self, key: str, etag: str = "", size: int = 0) -> None:
        made = Entry(f"v{next(self.numbers)}", datetime.now(UTC), etag, size)
        self.entries.setdefault(key, []).insert(0, made)


def ruined(keys: int, notes: int) -> Versions:
    entries = {}
    for number in range(keys):
        held = Entry(f"v{number}", BEFORE, etag_of(number))
        deleted = Entry(f"d{number}", SINCE)
        overwritten = Entry(f"w{number}", SINCE, "e" * 32, 2076)
        since = [[deleted], [overwritten], []][FATES[number % 10]]
        entries[name_of(number)] = [*since, held]
    for number in range(notes):
        entries[f"{number % 97:02}/READ_ME_{number:03}"] = [Entry(f"n{number}", SINCE, "f" * 32)]
    return Versions(entries)


def name_of(number: int) -> str:
    return f"{number % 97:02}/{number:06}"


def etag_of(number: int) -> str:
    return f"{number:032x}"


def state_then(keys: int) -> dict[str, str]:
    """What readers got at MOMENT."""
    return {name_of(number): etag_of(number) for number in range(keys)}


def _row(key: str, entry: Entry, is_latest: bool) -> str:
    common = (
        f"<Key>{quote(key)}</Key><VersionId>{entry.version_id}</VersionId>"
        f"<IsLatest>{str(is_latest).lower()}</IsLatest>"
        f"<LastModified>{entry.at:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
    )
    if not entry.etag:
        return f"<DeleteMarker>{common}</DeleteMarker>"
    facts = f"<ETag>&quot;{entry.etag}&quot;</ETag><Size>{entry.size}</Size>"
    return f"<Version>{common}{facts}<StorageClass>STANDARD</StorageClass></Version>"


def _folders(names: list[str]) -> str:
    rows = (f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in names)
    return _listing(list(rows), "", "")


def _listing(rows: list[str], key: str, version_id: str) -> str:
    more = (
        f"<NextKeyMarker>{quote(key)}</NextKeyMarker>"
        f"<NextVersionIdMarker>{version_id}</NextVersionIdMarker>"
    )
    return (
        f"<ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>"
        f"{str(bool(key)).lower()}</IsTruncated>{more if key else ''}{''.join(rows)}"
        "</ListVersionsResult>"
    )


def _deleted(key: str, version_id: str) -> str:
    version = f"<VersionId>{version_id}</VersionId>" if version_id else ""
    return f"<Deleted><Key>{key}</Key>{version}</Deleted>"


if __name__ == "__main__":
    port, keys, notes = (int(word) for word in sys.argv[1:])
    asyncio.run(serve(port, ruined(keys, notes).answer))
