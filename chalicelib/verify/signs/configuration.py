"""Settings of a bucket that changed so that data can be lost, or the watch made blind.

Before the data goes, what protects it goes. One such change is often somebody's work; it counts
alone as a suspicion, and together with any other strong sign as an infection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from chalicelib.plan.records import digest_of
from chalicelib.plan.signs import SeenRule, Sign
from chalicelib.ports.samples import Settings

# An attacker who marks everything for deletion gives its owner a week to pay.
SOON_DAYS = 7
MOST_RULES = 50
UNREADABLE = "may not be read any more"

Part = Any
# The part before and after -> (score, what was found), or None when the change is harmless.
Finding = tuple[float, str] | None


def compare_settings(before: Settings, after: Settings) -> list[Sign]:
    """What changed for the worse. Pure.

    A change lies between the two looks, so its sign bears the time of the earlier one: what was
    kept since is suspect too. A part that could be read and can be no more is a sign.
    """
    found = [
        _sign(before, part, 0.5, f"{part} {UNREADABLE}: {reason}", before.taken_at)
        for part, reason in sorted(after.unknown.items())
        if part not in before.unknown
    ]
    for part, judge in _PARTS.items():
        if part in after.unknown or part not in before.parts:
            continue
        was, now = before.parts.get(part), after.parts.get(part)
        finding = judge(was, now) if digest_of(was) != digest_of(now) else None
        if finding:
            found.append(_sign(before, part, *finding, before.taken_at, was, now))
    return found


def _sign(
    settings: Settings,
    part: str,
    score: float,
    text: str,
    at: datetime,
    was: Part = None,
    now: Part = None,
) -> Sign:
    evidence = {"part": part, "before": _short(was), "after": _short(now)}
    return Sign(f"settings-{part}", "configuration", score, settings.bucket, at, text, evidence)


def _short(part: Part) -> str:
    return str(part)[:500]


def _versioning(was: Part, now: Part) -> Finding:
    status = (now or {}).get("Status", "")
    if (was or {}).get("Status") == "Enabled" and status != "Enabled":
        return 0.85, "versioning was enabled and is suspended: what is overwritten is gone"
    return None


def _lifecycle(was: Part, now: Part) -> Finding:
    old = {digest_of(rule) for rule in (was or {}).get("Rules", ())}
    fresh = [rule for rule in (now or {}).get("Rules", ()) if digest_of(rule) not in old]
    soonest = min((days for rule in fresh for days in _expiry_days(rule)), default=None)
    if soonest is None or soonest > SOON_DAYS:
        return None
    return 0.85, f"a new lifecycle rule deletes objects after {soonest} days"


def _expiry_days(rule: Mapping[str, Any]) -> list[int]:
    """Of an enabled rule. A date counts as at once: whoever sets one does not mean next year."""
    if rule.get("Status") != "Enabled":
        return []
    current = rule.get("Expiration", {})
    days = [current["Days"]] if "Days" in current else [0] if "Date" in current else []
    older = rule.get("NoncurrentVersionExpiration", {})
    return [*days, *([older["NoncurrentDays"]] if "NoncurrentDays" in older else [])]


def note_rules(
    known: Sequence[SeenRule], settings: Settings, *, most: int = MOST_RULES
) -> tuple[SeenRule, ...]:
    """The rules that remove older versions, each with when it was seen first and last. Pure.

    A rule that comes again counts as if it had been there all the time. Of more than `most`, those
    that were seen last are kept.
    """
    now, seen = settings.taken_at, {(one.prefix, one.days): one for one in known}
    if "lifecycle" in settings.unknown:
        return tuple(known)
    for rule in (settings.parts.get("lifecycle") or {}).get("Rules", ()):
        older = rule.get("NoncurrentVersionExpiration", {})
        if rule.get("Status") == "Enabled" and "NoncurrentDays" in older:
            place = (_prefix(rule), int(older["NoncurrentDays"]))
            first = seen[place].from_at if place in seen else now
            seen[place] = SeenRule(*place, first, now)
    return tuple(sorted(seen.values(), key=lambda one: one.until_at)[-most:])


def _prefix(rule: Mapping[str, Any]) -> str:
    chosen = rule.get("Filter", {})
    return str(
        chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix", "")
    )


def _lock(was: Part, now: Part) -> Finding:
    if was and (not now or _lock_days(now) < _lock_days(was) or _eased(was, now)):
        return 0.8, "Object Lock protects less than before"
    return None


def _retention(part: Part) -> Mapping[str, Any]:
    found: Mapping[str, Any] = part.get("Rule", {}).get("DefaultRetention", {})
    return found


def _lock_days(part: Part) -> int:
    rule = _retention(part)
    return int(rule.get("Days", 0)) + 365 * int(rule.get("Years", 0))


def _eased(was: Part, now: Part) -> bool:
    """Governance can be lifted by who has the right; compliance by nobody."""
    return _retention(was).get("Mode") == "COMPLIANCE" != _retention(now).get("Mode")


def _replication(was: Part, now: Part) -> Finding:
    if _active_rules(now) < _active_rules(was):
        return 0.6, "a replication rule was removed or disabled"
    return None


def _active_rules(part: Part) -> int:
    return sum(rule.get("Status") == "Enabled" for rule in (part or {}).get("Rules", ()))


def _encryption(was: Part, now: Part) -> Finding:
    return 0.6, "the default encryption was changed: new objects are under another key"


def _policy(was: Part, now: Part) -> Finding:
    """A policy that newly lets anybody in, or newly keeps somebody out, weighs more."""
    old = {digest_of(it) for it in _statements(was)}
    fresh = [it for it in _statements(now) if digest_of(it) not in old]
    if any(_lets_all_in(it) for it in fresh):
        return 0.6, "the bucket policy lets everybody in"
    if any(it.get("Effect") == "Deny" for it in fresh):
        return 0.5, "the bucket policy denies what it did not deny"
    if not now:
        return 0.5, "the bucket policy was removed"
    return 0.3, "the bucket policy was changed"


def _statements(part: Part) -> list[Mapping[str, Any]]:
    found = (part or {}).get("Statement", [])
    return list(found) if isinstance(found, list) else [found]


def _lets_all_in(statement: Mapping[str, Any]) -> bool:
    anybody = statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
    return anybody and statement.get("Effect") == "Allow" and not statement.get("Condition")


def _logging(was: Part, now: Part) -> Finding:
    return (0.3, "access logging was turned off") if was and not now else None


def _ownership(was: Part, now: Part) -> Finding:
    return 0.3, "who owns what others upload was changed"


def _public_access(was: Part, now: Part) -> Finding:
    closed = sum(bool(it) for it in (was or {}).values())
    if sum(bool(it) for it in (now or {}).values()) < closed:
        return 0.5, "the block of public access was loosened"
    return None


def _notification(was: Part, now: Part) -> Finding:
    if "EventBridgeConfiguration" in (was or {}) and "EventBridgeConfiguration" not in (now or {}):
        return 0.7, "the bucket sends no events any more: this watch is blind to what happens"
    return None


_PARTS: dict[str, Callable[[Part, Part], Finding]] = {
    "versioning": _versioning,
    "lifecycle": _lifecycle,
    "lock": _lock,
    "replication": _replication,
    "encryption": _encryption,
    "policy": _policy,
    "logging": _logging,
    "ownership": _ownership,
    "public-access": _public_access,
    "notification": _notification,
}


def find_blind_settings(settings: Settings) -> list[str]:
    """What the settings themselves keep this watch, or a recovery, from doing."""
    found = [f"settings {part}: {why}" for part, why in sorted(settings.unknown.items())]
    versioning = (settings.parts.get("versioning") or {}).get("Status")
    if "versioning" in settings.parts and versioning != "Enabled":
        found.append("versions: the bucket keeps none, nothing can be compared or taken back")
    notification = settings.parts.get("notification") or {}
    if "notification" in settings.parts and "EventBridgeConfiguration" not in notification:
        found.append("events: the bucket sends none to EventBridge")
    return found
