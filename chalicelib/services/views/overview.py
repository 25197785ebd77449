"""Readiness and RPO in one look: the copies are read once for both."""

from __future__ import annotations

from typing import Any

from chalicelib.services import build
from chalicelib.services.views.copies import read_all
from chalicelib.services.views.readiness import tell_readiness
from chalicelib.services.views.rpo import tell_rpo

Event = dict[str, Any]


def overview_view(_event: Event) -> Event:
    """{"readiness", "rpo"}, as those views have them."""
    now, copies = build.clock().now(), read_all()
    return {
        "readiness": tell_readiness(copies, now=now),
        "rpo": tell_rpo(copies, now=now),
    }
