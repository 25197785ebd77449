"""The data keys of one location: made, found again, opened, given other recipients.

A key set is durable before the first object that needs it. Changing recipients rewrites key sets
alone; no object is touched. Two writers never meet: each new data key has a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from threading import RLock
from typing import Any

from chalicelib.adapters.sealing.envelope import DataKey, check_key, make_data_key
from chalicelib.adapters.sealing.key_sets import (
    KEY_ID,
    Entry,
    KeySet,
    Opener,
    Recipient,
    Rewrapping,
    bound_to,
    created_at,
    decide_rewrap,
    no_key_fits,
    no_recipient,
    read_key_set,
)
from chalicelib.errors import LeewardError, NotReady, Tampered, Truncated, Unavailable
from chalicelib.plan.records import CheckResult, canonical_json
from chalicelib.ports import Clock, ObjectStore

KEYS = "keys/"


class KeyRing:
    """The key sets of one location, which is one prefix of one store. Threads may share a ring.

    Args:
        store: where the objects and `keys/` lie.
        location: what all objects are bound to; the same for good.
        recipients: for whom data keys are wrapped. Without any, nothing can be sealed.
        openers: tried in this order.
        period: for how long one data key seals new objects.
    """

    def __init__(
        self,
        store: ObjectStore,
        location: str,
        *,
        clock: Clock,
        recipients: Sequence[Recipient] = (),
        openers: Sequence[Opener] = (),
        period: timedelta = timedelta(days=30),
    ) -> None:
        self._store, self._location, self._clock = store, location, clock
        self._recipients, self._openers, self._period = recipients, openers, period
        self._opened: dict[str, DataKey] = {}
        self._sealing: DataKey | None = None
        self._lock = RLock()

    def sealing_key(self) -> DataKey:
        """The data key for new objects; its key set is durable.

        The newest key set of this period is used again when it has the recipients of this ring
        and can be opened; otherwise a new one is made.

        Raises:
            as `rotate`; Tampered when the newest key set is damaged, or of another location (code
            "other-location": it was renamed in the plan); nothing was sealed.
        """
        with self._lock:
            if self._sealing is None or not self._is_current(self._sealing.id):
                self._sealing = self._of_this_period() or self.rotate()
            return self._sealing

    def rotate(self) -> DataKey:
        """A new data key, for new objects from now on. Nothing that is stored is touched.

        A recipient whose keeper does not answer is left out, so that copying goes on while a
        region is lost; `rewrap` adds it.

        Raises:
            BadInput: code "no-recipient".
            Unavailable: no keeper answered.
        """
        key = make_data_key(self._location, self._clock.now())
        self._write(KeySet(key.id, self._location, created_at(key.id), self._wrap(key)))
        self._opened[key.id] = self._sealing = key
        return key

    def opening_key(self, key_id: str) -> DataKey:
        """The data key of objects that are stored; asked for once.

        Raises:
            Truncated: code "key-missing".
            Tampered: "key-set-unreadable", "other-location", "wrong-key".
            NotReady, Unavailable: code "no-key-fits".
        """
        with self._lock:
            if key_id not in self._opened:
                self._opened[key_id] = self.open(self.key_set(key_id))
            return self._opened[key_id]

    def open(self, key_set: KeySet) -> DataKey:
        """The first opener that fits and answers gives the data key. Raises as `opening_key`."""
        failed: list[LeewardError] = []
        for opener in self._openers:
            key = _try(opener, key_set, failed)
            if key:
                return key
        raise no_key_fits(key_set, self._openers, failed)

    def key_set(self, key_id: str) -> KeySet:
        """Raises as `opening_key`."""
        try:
            data = self._store.get(f"{KEYS}{key_id}.json")
        except Truncated as error:
            raise Truncated(
                f"expected a key set {key_id}, found none",
                code="key-missing",
                hint=f"Copy {KEYS}{key_id}.json back, or the objects from another location.",
                key_id=key_id,
            ) from error
        key_set = read_key_set(data, key_id)
        self._require_own(key_set)
        return key_set

    def _require_own(self, key_set: KeySet) -> None:
        if key_set.location != self._location:
            raise Tampered(
                f"expected a key set of {self._location}, {key_set.key_id} is of "
                f"{key_set.location}",
                code="other-location",
                hint="Give the location its old name, or the new one an empty bucket: what is "
                "sealed stays bound to the name it was sealed for.",
                key_id=key_set.key_id,
            )

    def key_ids(self) -> list[str]:
        """Oldest first; what has no such name is no key set."""
        names = [row.key.removeprefix(KEYS) for row in self._store.list(KEYS)]
        stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return [stem for stem in stems if KEY_ID.fullmatch(stem)]

    def key_sets(self) -> Iterator[KeySet]:
        """Oldest first. Raises as `opening_key`."""
        return map(self.key_set, self.key_ids())

    def lacking(self, key_set: KeySet) -> tuple[str, ...]:
        """The recipients of this ring that a key set is not wrapped for: their keys open nothing
        that was sealed with it, until `rewrap`."""
        wanted = (recipient.name for recipient in self._recipients)
        return tuple(name for name in wanted if name not in key_set.names)

    def was_changed(self, key_set: KeySet, *, before: KeySet) -> bool:
        """Whether what was wrapped for a recipient of this ring is another now, or gone: a rewrap
        gives and takes recipients that the plan no longer names, and leaves the others alone."""
        wanted = {recipient.name for recipient in self._recipients}
        stands = {str(entry["recipient"]): entry for entry in key_set.recipients}
        entries = (entry for entry in before.recipients if entry["recipient"] in wanted)
        return any(stands.get(str(entry["recipient"])) != entry for entry in entries)

    def put_back(self, key_set: KeySet) -> None:
        """One that was lost; nothing when somebody did so meanwhile.

        Raises Tampered (code "other-location").
        """
        self._require_own(key_set)
        if key_set.key_id not in self.key_ids():
            self._write(key_set)

    def decide_rewrap(self) -> list[Rewrapping]:
        """What `apply_rewrap` would change, for every key set. Raises as `key_sets`."""
        wanted = [recipient.name for recipient in self._recipients]
        return [decide_rewrap(key_set, wanted) for key_set in self.key_sets()]

    def apply_rewrap(self, decided: Sequence[Rewrapping]) -> None:
        """Give each data key the recipients of this ring; safe to repeat after a crash.

        When one is removed, new objects get a new data key first: the removed recipient may know
        the old one. What it could open before stays open to it, in this location and in copies
        of the old key set.

        Raises:
            as `opening_key`, and Unavailable when a new recipient's keeper does not answer; the
            key sets before it are done, it and those after it are as they were.
        """
        if any(change.remove for change in decided):
            self.rotate()
        for change in decided:
            if change.needed:
                self._rewrap(change)

    def _rewrap(self, change: Rewrapping) -> None:
        key_set = self.key_set(change.key_id)
        key = self.open(key_set)
        kept = [entry for entry in key_set.recipients if entry["recipient"] in change.keep]
        new = [
            recipient.wrap(key.secret, key_set.bound_to)
            for recipient in self._recipients
            if recipient.name in change.add
        ]
        self._write(KeySet(key.id, key.location, key_set.created_at, (*kept, *new)))

    def _of_this_period(self) -> DataKey | None:
        known = self.key_ids()
        # However old: a new data key beside those of another location would hide that none of
        # its copies opens any more.
        newest = self.key_set(known[-1]) if known else None
        current = [key_id for key_id in known if self._is_current(key_id)]
        if newest is None or not current:
            return None
        key_set = self.key_set(current[-1])
        if set(key_set.names) != {recipient.name for recipient in self._recipients}:
            return None
        try:
            return self.opening_key(key_set.key_id)
        except (NotReady, Unavailable):
            # A writer that may not open key sets makes its own.
            return None

    def _is_current(self, key_id: str) -> bool:
        """Not so when it is of a clock that is ahead: it would be used for longer."""
        return timedelta(0) <= self._clock.now() - created_at(key_id) < self._period

    def _wrap(self, key: DataKey) -> tuple[dict[str, Any], ...]:
        entries: list[dict[str, Any]] = []
        silent: Unavailable | None = None
        for recipient in self._recipients:
            try:
                entries.append(recipient.wrap(key.secret, bound_to(key.location, key.id)))
            except Unavailable as error:
                silent = error
        if not entries:
            raise silent or no_recipient()
        return tuple(entries)

    def _write(self, key_set: KeySet) -> None:
        self._store.put(f"{KEYS}{key_set.key_id}.json", canonical_json(key_set.to_json()))


def _try(opener: Opener, key_set: KeySet, failed: list[LeewardError]) -> DataKey | None:
    """None when it does not open; why is added to `failed`. A silent keeper is asked once."""
    for entry in filter(opener.fits, key_set.recipients):
        try:
            secret = opener.unwrap(entry, key_set.bound_to)
            return check_key(DataKey(key_set.key_id, key_set.location, secret))
        except LeewardError as error:
            failed.append(error)
            if isinstance(error, Unavailable):
                break
    return None


def check_key_set(key_set: KeySet, openers: Sequence[Opener]) -> tuple[CheckResult, ...]:
    """Has each recipient what opens the data key? One result for each that an opener fits."""
    return tuple(
        _check_entry(key_set, entry, opener)
        for entry in key_set.recipients
        for opener in openers
        if opener.fits(entry)
    )


def _check_entry(key_set: KeySet, entry: Entry, opener: Opener) -> CheckResult:
    name = str(entry["recipient"])
    try:
        secret = opener.unwrap(entry, key_set.bound_to)
        check_key(DataKey(key_set.key_id, key_set.location, secret))
    except LeewardError as error:
        return CheckResult(name, ok=False, found=f"{error.instance_code}: {error.message}")
    return CheckResult(name, ok=True, found=f"opened by {opener.name}")
