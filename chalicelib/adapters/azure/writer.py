"""One object on its way to Azure, in blocks: sent by one process or by several in turn."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from chalicelib.adapters.http.service import Request
from chalicelib.adapters.read_ahead import MIB
from chalicelib.adapters.refusals import not_as_sent
from chalicelib.plan.records import StoredObject
from chalicelib.ports.lasting import RunningDigest, pack, unpack

if TYPE_CHECKING:
    from chalicelib.adapters.azure.store import AzureObjectStore

BLOCK_BYTES = 8 * MIB
BLOCK_THREADS = 3
# Azure takes 50,000 blocks of up to 4,000 MiB; doubling every 8,000 reaches 3.9 TiB.
BLOCKS_PER_SIZE = 8000


class BlockWriter:
    """One object on its way: a single request when it stays below one block.

    Blocks that no list names are unseen; Azure removes them within a week.
    """

    def __init__(self, store: AzureObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self._url = store._blob(key)
        self._run = secrets.token_hex(8)
        self._buffer = bytearray()
        self._digests = Digests()
        self._blocks: list[Future[str]] = []
        self._threads = ThreadPoolExecutor(BLOCK_THREADS)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._digests.update(data)
        view = memoryview(data)
        for start in range(0, len(view), BLOCK_BYTES):
            self._buffer += view[start : start + BLOCK_BYTES]
            if len(self._buffer) >= self._block_bytes():
                self._send_block()

    def commit(self) -> StoredObject:
        if not self._blocks:
            return self._store.put(self._key, bytes(self._buffer))
        if self._buffer:
            self._send_block()
        body = _block_list([block.result() for block in self._blocks])
        headers = self._digests.headers(self._store._note()) | {"Content-MD5": md5_of(body)}
        request = Request("PUT", f"{self._url}?comp=blocklist", headers, body)
        self._store._check(self._key, self._store._service.call(request), 201)
        self._compare()
        return self._digests.stored(self._key)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _block_bytes(self) -> int:
        return self._store._block_bytes << (len(self._blocks) // BLOCKS_PER_SIZE)

    def _send_block(self) -> None:
        body, self._buffer = self._buffer, bytearray()
        unsent = len(self._blocks) - BLOCK_THREADS
        if unsent >= 0:
            self._blocks[unsent].result()
        block = _block_id(self._run, len(self._blocks))
        self._blocks.append(self._threads.submit(self._put_block, block, body))

    def _put_block(self, block: str, body: bytearray) -> str:
        query = urlencode({"comp": "block", "blockid": block}, quote_via=quote)
        sent = md5_of(body)
        request = Request("PUT", f"{self._url}?{query}", {"Content-MD5": sent}, body)
        answer = self._store._check(self._key, self._store._service.call(request), 201)
        if (found := answer.headers.get("Content-MD5", sent)) != sent:
            raise not_as_sent(self._key, f"a block of MD5 {sent}", found)
        return block

    def _compare(self) -> None:
        """Azure keeps the MD5 of the whole as it was told; its own word is the size."""
        found = self._store.facts(self._key)
        wanted = (self._digests.size_bytes, self._digests.sha256())
        if (found.size_bytes, found.checksums.get("sha256")) != wanted:
            self._store.delete(self._key)
            raise not_as_sent(self._key, f"{wanted[0]} bytes", f"{found.size_bytes} bytes")


class Digests:
    """`lasting`: they have a `state`, with which others are made."""

    def __init__(self, state: Mapping[str, Any] | None = None, *, lasting: bool = False) -> None:
        known = state or {}
        self._sha256: Any = hashlib.sha256()
        self._md5: Any = hashlib.md5(usedforsecurity=False)
        if lasting:
            self._sha256 = RunningDigest("sha256", known.get("sha256", ""))
            self._md5 = RunningDigest("md5", known.get("md5", ""))
        self.size_bytes = known.get("size", 0)

    def state(self) -> dict[str, Any]:
        sha256, md5 = self._sha256.state(), self._md5.state()
        return {"sha256": sha256, "md5": md5, "size": self.size_bytes}

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._sha256.update(data)
        self._md5.update(data)
        self.size_bytes += len(data)

    def sha256(self) -> str:
        return str(self._sha256.hexdigest())

    def stored(self, key: str) -> StoredObject:
        return StoredObject(key, self.size_bytes, self.sha256())

    def headers(self, note: str = "") -> dict[str, str]:
        """`write` tells this request from any other that sends the same bytes. The MD5 stands
        beside the rest, too: Azure's own must stay the same while they belong together."""
        headers = {
            "x-ms-blob-content-md5": b64encode(self._md5.digest()).decode(),
            "x-ms-blob-content-type": "application/octet-stream",
            "x-ms-meta-sha256": self.sha256(),
            "x-ms-meta-md5": self._md5.digest().hex(),
            "x-ms-meta-write": secrets.token_hex(8),
        }
        return {**headers, "x-ms-meta-note": note} if note else headers


class LastingBlockWriter(BlockWriter):
    """Its blocks stay for a week: that is how long Azure keeps what no list names."""

    def __init__(self, store: AzureObjectStore, key: str, checkpoint: bytes = b"") -> None:
        super().__init__(store, key)
        facts, rest = unpack(checkpoint) if checkpoint else ({}, b"")
        self._run = facts.get("run", self._run)
        self._digests = Digests(facts.get("digests"), lasting=True)
        self._buffer = bytearray(rest)
        for number in range(facts.get("blocks", 0)):
            block: Future[str] = Future()
            block.set_result(_block_id(self._run, number))
            self._blocks.append(block)

    def checkpoint(self) -> bytes:
        blocks = [block.result() for block in self._blocks]
        digests = self._digests.state()
        return pack({"run": self._run, "blocks": len(blocks), "digests": digests}, self._buffer)


def _block_id(run: str, number: int) -> str:
    """Ids of one blob have one length; those of another run must not be taken for ours."""
    return b64encode(f"{run}-{number:05}".encode()).decode()


def md5_of(data: bytes | bytearray) -> str:
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _block_list(blocks: list[str]) -> bytes:
    root = ElementTree.Element("BlockList")
    for block in blocks:
        ElementTree.SubElement(root, "Uncommitted").text = block
    return b'<?xml version="1.0" encoding="utf-8"?>' + ElementTree.tostring(root)
