"""The status page's feed (Atom, RFC 4287): an entry for each update, the newest first. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from xml.etree import ElementTree

from chalicelib.incidents.status.page import IncidentShown, Page
from chalicelib.incidents.status.sources import Update

ATOM = "http://www.w3.org/2005/Atom"
ENTRIES = 50
# Whoever reads the feed knows an entry by its id again, whichever stack wrote it.
NAMESPACE = uuid.UUID("5f1b7d1e-6a77-4a39-9d2f-0c6f1a0e8f6b")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def render_feed(page: Page, clean: Callable[[object], str]) -> bytes:
    """Args:
    clean: leaves out what XML has no characters for.
    """
    said = sorted(_said(page), key=lambda it: (it[1].said_at, it[1].id), reverse=True)[:ENTRIES]
    feed = ElementTree.Element("feed", xmlns=ATOM)
    _add(feed, "id", _urn(page.shown.plan, "drill" if page.drill else ""))
    _add(feed, "title", clean(f"{page.shown.organisation}: status"))
    # Of what it tells, not of when it was written: the same entries are the same bytes.
    _add(feed, "updated", _time(said[0][1].said_at if said else EPOCH))
    author = ElementTree.SubElement(feed, "author")
    _add(author, "name", clean(page.shown.organisation))
    if page.shown.address:
        _link(feed, f"{page.shown.address}feed.atom", "self")
        _link(feed, page.shown.address, "alternate")
    for incident, update in said:
        feed.append(_entry(page, incident, update, clean))
    body: bytes = ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True)
    return body + b"\n"


def _said(page: Page) -> Iterator[tuple[IncidentShown, Update]]:
    for incident in page.incidents:
        yield from ((incident, update) for update in incident.updates)


def _entry(
    page: Page, incident: IncidentShown, update: Update, clean: Callable[[object], str]
) -> ElementTree.Element:
    entry = ElementTree.Element("entry")
    _add(entry, "id", _urn(page.shown.plan, f"{incident.id}/{update.id}"))
    _add(entry, "title", clean(f"{incident.title} ({update.state})"))
    _add(entry, "updated", _time(update.said_at))
    _link(entry, f"{page.shown.address}incidents/{incident.id}.html", "alternate")
    ElementTree.SubElement(entry, "content", type="text").text = clean(update.text)
    return entry


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text


def _link(parent: ElementTree.Element, to: str, relation: str) -> None:
    ElementTree.SubElement(parent, "link", href=to, rel=relation)


def _urn(plan: str, about: str) -> str:
    return uuid.uuid5(NAMESPACE, f"{plan}/{about}").urn


def _time(at: datetime) -> str:
    """RFC 3339, as RFC 4287 wants it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
