"""What taking a bucket back costs: requests by kind, and dollars at list prices.

An estimate for a person who decides, not a bill: prices are those of us-east-1 and differ by
region; what is free of charge (DELETE) is counted as if it were not where S3 sends it as POST.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.plan.records import Record

GB = 10**9
# Dollars per 1,000 requests and per GB. Source: aws.amazon.com/s3/pricing, us-east-1, 2025-11.
LIST_PRICE = 0.005
HEAD_PRICE = 0.0004
COPY_PRICES = {
    "STANDARD": 0.005,
    "INTELLIGENT_TIERING": 0.005,
    "STANDARD_IA": 0.01,
    "ONEZONE_IA": 0.01,
    "GLACIER_IR": 0.02,
    "GLACIER": 0.03,
    "DEEP_ARCHIVE": 0.05,
}
READ_PRICES = {"STANDARD_IA": 0.01, "ONEZONE_IA": 0.01, "GLACIER_IR": 0.03}
STORAGE_PRICE = 0.023

# Standard retrieval: dollars per 1,000 requests and per GB, hours at most. Same page, and the S3
# user guide, "Archive retrieval options".
THAW_PRICES = {"GLACIER": (0.05, 0.01), "DEEP_ARCHIVE": (0.10, 0.02)}
THAW_HOURS = {"GLACIER": 5, "DEEP_ARCHIVE": 12}

ROWS_OF_A_PAGE = 1000
KEYS_OF_A_BATCH = 250
# Rows of one of the streams that prove.
ROWS_OF_A_RANGE = 600
# S3 copies more than this in parts. Source: S3 API reference, CopyObject.
WHOLE_COPY_BYTES = 5 << 30
COPY_PART_BYTES = 512 << 20


@dataclass(frozen=True)
class Requests(Record):
    """Numbers of requests of each kind."""

    list: int = 0
    head: int = 0
    copy: int = 0
    batch: int = 0
    restore: int = 0

    @property
    def total(self) -> int:
        return self.list + self.head + self.copy + self.batch + self.restore


@dataclass(frozen=True)
class Cost(Record):
    """`once_usd`: requests and retrieval. `monthly_usd`: keeping the copies. `wait_hours`: until
    everything archived can be copied, at most."""

    requests: Requests
    once_usd: float
    monthly_usd: float
    wait_hours: int = 0


class CostMeter:
    """Adds up what single keys cost."""

    def __init__(self) -> None:
        self._heads = self._copies = self._batched = self._thaws = 0
        self._entries = self._pages = 0
        self._once = 0.0
        self._copied_bytes = 0
        self._wait_hours = 0

    def stream(self, entries: int) -> None:
        """One stream of the listing, with so many rows."""
        self._entries += entries
        self._pages += _pages(entries)

    def compare(self) -> None:
        self._heads += 2
        self._once += 2 * HEAD_PRICE / 1000

    def batch(self, number: int) -> None:
        """Markers put or removed."""
        self._batched += number

    def copy(self, size_bytes: int, storage_class: str) -> None:
        requests = copy_requests(size_bytes)
        self._copies += requests
        self._copied_bytes += size_bytes
        self._once += requests * COPY_PRICES.get(storage_class, LIST_PRICE) / 1000
        self._once += size_bytes / GB * READ_PRICES.get(storage_class, 0.0)

    def thaw(self, size_bytes: int, storage_class: str) -> None:
        """Restored from its archive, and copied out of it afterwards."""
        per_thousand, per_gb = THAW_PRICES.get(storage_class, (0.0, 0.0))
        self._thaws += 1
        self._once += per_thousand / 1000 + size_bytes / GB * per_gb
        self._wait_hours = max(self._wait_hours, THAW_HOURS.get(storage_class, 0))
        self.copy(size_bytes, "STANDARD")

    def cost(self, *, listed_again: bool = False) -> Cost:
        """The listing is read to decide and to prove; `listed_again`: and to act."""
        batches = -(-self._batched // KEYS_OF_A_BATCH)
        pages = self._pages * (2 if listed_again else 1) + _pages(self._entries, ROWS_OF_A_RANGE)
        requests = Requests(pages, self._heads, self._copies, batches, self._thaws)
        once = self._once + (pages + batches) * LIST_PRICE / 1000
        monthly = self._copied_bytes / GB * STORAGE_PRICE
        return Cost(requests, round(once, 6), round(monthly, 6), self._wait_hours)


def _pages(entries: int, rows: int = ROWS_OF_A_PAGE) -> int:
    return max(1, -(-entries // rows))


def copy_requests(size_bytes: int) -> int:
    """One, or begin, parts and end."""
    if size_bytes <= WHOLE_COPY_BYTES:
        return 1
    return 2 + -(-size_bytes // COPY_PART_BYTES)
