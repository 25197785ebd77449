"""What stored bytes cost, so that a contradiction in a plan has a price.

List prices of the standard (hot) class in one region of the United States, in US dollars for a GB
(10^9 bytes) and a month, without requests, transfer, discounts and other classes: an order of
magnitude, not a bill.
Source: price lists of Amazon S3 (us-east-1, first 50 TB), Google Cloud Storage (us-central1) and
Azure Blob Storage (LRS, hot, first 50 TB), as of 2026.
"""

from __future__ import annotations

from chalicelib.plan.places import Provider

USD_PER_GB_MONTH: dict[Provider, float] = {"aws": 0.023, "gcp": 0.020, "azure": 0.018}


def usd_per_month(size_bytes: float, provider: Provider) -> float | None:
    """None where there is no price list: on servers of one's own."""
    price = USD_PER_GB_MONTH.get(provider)
    return None if price is None else size_bytes / 1e9 * price


def format_usd(amount: float) -> str:
    """ "$0.04", "$21.16", "$1,204"."""
    return f"${amount:,.2f}" if amount < 1000 else f"${amount:,.0f}"
