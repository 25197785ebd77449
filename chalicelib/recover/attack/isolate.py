"""Isolate what an attack reached: which barriers, raised one after the other, each reversible.

    plan -> decide_barriers -> Planned...   for each: look -> kept -> raised -> kept
                                            lift:     lowered -> kept

What was there before is durable before anything is changed, under the component and not the run: a
second run, or a retry, never takes the isolated state for what was there before. One barrier that
cannot be raised does not keep the others from being raised.

State: `isolation#<component>` / `<kind>#<target>` -> Cut.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from chalicelib.errors import LeewardError, Refused, Unavailable
from chalicelib.plan.components import Bucket, Component, Server
from chalicelib.plan.records import Record, parse_time
from chalicelib.ports import Clock, StateStore
from chalicelib.ports.isolation import Barrier, BarrierKind, Planned

Standing = Literal["raising", "raised", "lowered", "left"]
Open = Callable[[Planned], Barrier]
Tell = Callable[["Cut"], None]


@dataclass(frozen=True)
class Cut(Record):
    """One barrier as it stands. `before`: what was there; `made`: what raising it left behind.

    standing "raising": begun, and how far is not known; "left": not Leeward's to raise, a person
    must. `at`: when that became so.
    """

    component: str
    kind: BarrierKind
    target: str
    run_id: str
    standing: Standing
    at: datetime
    why: str
    undo: str
    region: str = ""
    before: dict[str, Any] = field(default_factory=dict)
    found: str = ""
    made: tuple[str, ...] = ()

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "at":
            return parse_time(value)
        return tuple(value) if name == "made" else value

    @property
    def sort(self) -> str:
        return f"{self.kind}#{self.target}"

    @property
    def planned(self) -> Planned:
        return Planned(self.kind, self.target, self.why, self.undo, self.region)


@dataclass(frozen=True)
class Failure:
    """A barrier that could not be raised, or lowered."""

    kind: str
    target: str
    error: LeewardError


@dataclass(frozen=True)
class Outcome:
    """`done`: the cuts as they stand now. `kept`: what was deliberately not put back."""

    done: tuple[Cut, ...]
    failed: tuple[Failure, ...]
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Barriers:
    """`raised`: in this order. `left`: what a person must do, because Leeward may or can not."""

    raised: tuple[Planned, ...]
    left: tuple[Planned, ...]


def decide_barriers(
    component: Component, *, identities: Iterable[str] = (), known: Collection[str] = ()
) -> Barriers:
    """What keeps an attack from a component. Pure.

    Args:
        identities: of the attack, as "user/NAME" or "role/NAME", besides the component's own.
        known: those that the plan names for any component: Leeward has rights over no other.
    """
    wanted = [*component.identities, *identities]
    planned = [*_of_bucket(component)]
    planned += [it for name in wanted if name in known for it in _of_identity(name)]
    planned += [*_of_server(component)]
    left = [_unknown(name) for name in wanted if name not in known]
    if isinstance(component, Server) and component.quarantine_group is None:
        left.append(_no_group(component.instance))
    return Barriers(_unique(planned), _unique(left))


def _of_bucket(component: Component) -> Iterator[Planned]:
    if not isinstance(component, Bucket):
        return
    name = component.bucket
    yield Planned(
        "bucket-policy", name, "who has valid keys writes over what is good",
        f"remove the statement LeewardIsolation from the policy of {name}",
    )  # fmt: skip
    yield Planned(
        "bucket-history", name, "the good versions lie below the bad ones",
        f"enable the lifecycle rules of {name} again that `before` names",
    )  # fmt: skip


def _of_identity(identity: str) -> Iterator[Planned]:
    kind, _, name = identity.partition("/")
    if kind == "user":
        yield Planned(
            "access-keys", name, "a key may be stolen",
            f"aws iam update-access-key --user-name {name} --access-key-id KEY --status Active",
        )  # fmt: skip
    yield Planned(
        "sessions", identity, "a session outlives the key that it was made with",
        f"aws iam delete-{kind}-policy --{kind}-name {name} --policy-name LeewardIsolation",
    )  # fmt: skip


def _of_server(component: Component) -> Iterator[Planned]:
    if not isinstance(component, Server):
        return
    name, region = component.instance, component.region or ""
    if component.quarantine_group is not None:
        yield Planned(
            "network", name, "it may be under somebody else's control",
            "aws ec2 modify-network-interface-attribute --network-interface-id ENI --groups BEFORE",
            region,
        )  # fmt: skip
    yield Planned(
        "snapshots", name, "its volumes are evidence",
        "aws ec2 delete-snapshot --snapshot-id ID, when nobody needs the evidence any more",
        region,
    )  # fmt: skip


def _unknown(identity: str) -> Planned:
    kind, _, name = identity.partition("/")
    return Planned(
        "access-keys" if kind == "user" else "sessions", name if kind == "user" else identity,
        "the plan names it for no component, so Leeward has no rights over it",
        "disable it by hand, or name it under `identities` of the component and deploy",
    )  # fmt: skip


def _no_group(instance: str) -> Planned:
    return Planned(
        "network", instance, "the plan names no quarantine group for it",
        "put it into a security group without rules by hand, or name one in the plan",
    )  # fmt: skip


def _unique(planned: Iterable[Planned]) -> tuple[Planned, ...]:
    return tuple({(it.kind, it.target): it for it in planned}.values())


def partition(component: str) -> str:
    return f"isolation#{component}"


@dataclass(frozen=True)
class Isolator:
    """Raises the barriers of one component in one run. `tell` hears of each before and after."""

    component: str
    run_id: str
    open_: Open
    state: StateStore
    clock: Clock
    tell: Tell

    def raise_all(self, barriers: Barriers) -> Outcome:
        """Raise each, whatever became of the others. Safe to repeat."""
        done: list[Cut] = []
        failed: list[Failure] = []
        for planned in barriers.left:
            done.append(self._note(planned, "left", {}))
        for planned in barriers.raised:
            try:
                done.append(self._raise(planned))
            except LeewardError as error:
                failed.append(Failure(planned.kind, planned.target, error))
        return Outcome(tuple(done), tuple(failed))

    def _raise(self, planned: Planned) -> Cut:
        barrier = self.open_(planned)
        kept = read_cut(self.state, self.component, f"{planned.kind}#{planned.target}")
        if kept is None or kept.standing in ("lowered", "left"):
            kept = self._note(planned, "raising", barrier.look())
        if kept.standing == "raising":
            self.tell(kept)
        raised = barrier.raise_up(kept.before)
        made = tuple(dict.fromkeys((*kept.made, *raised.made)))
        up = replace(kept, standing="raised", at=self.clock.now(), found=raised.found, made=made)
        self.tell(up)
        return _save(up, kept, self.state)

    def _note(self, planned: Planned, standing: Standing, before: dict[str, Any]) -> Cut:
        """Begin anew. What stands as raised, or as being raised, is never written over."""
        cut = Cut(
            self.component, planned.kind, planned.target, self.run_id, standing, self.clock.now(),
            planned.why, planned.undo, planned.region, before,
        )  # fmt: skip
        if self.state.create(partition(self.component), cut.sort, cut.to_json()):
            return cut
        kept = read_cut(self.state, self.component, cut.sort)
        if kept is None or kept.standing in ("lowered", "left"):
            return _save(cut, kept, self.state)
        return kept


def lower_barriers(
    cuts: Sequence[Cut],
    *,
    open_: Open,
    state: StateStore,
    clock: Clock,
    tell: Tell = lambda _: None,
    as_found: bool = False,
) -> Outcome:
    """Lower each, the last raised first, whatever became of the others. Safe to repeat.

    `tell` hears of each before it counts as lowered: none is lowered that nobody heard of.
    """
    done: list[Cut] = []
    failed: list[Failure] = []
    left: list[str] = []
    for cut in sorted(cuts, key=lambda it: it.at, reverse=True):
        if cut.standing not in ("raising", "raised"):
            continue
        try:
            lowered = open_(cut.planned).lower(cut.before, as_found=as_found)
            down = replace(cut, standing="lowered", at=clock.now(), found=lowered.found)
            tell(down)
            done.append(_save(down, cut, state))
            left += lowered.kept
        except LeewardError as error:
            failed.append(Failure(cut.kind, cut.target, error))
    return Outcome(tuple(done), tuple(failed), tuple(left))


def read_cuts(state: StateStore, component: str) -> list[Cut]:
    """All that was ever raised for the component, as it stands."""
    return [_cut_of(item) for item in state.query(partition(component))]


def read_cut(state: StateStore, component: str, sort: str) -> Cut | None:
    item = state.get(partition(component), sort)
    return None if item is None else _cut_of(item)


def require_attack_cut_off(component: str, cuts: Iterable[Cut]) -> None:
    """Raises Refused (code "attack-not-cut-off") while a person's part of it is not done."""
    left = [it for it in cuts if it.standing == "left"]
    if left:
        named = "; ".join(f"{it.target}: {it.why}" for it in left)
        raise Refused(
            f"expected everything that the attack used to be cut off before {component} is opened,"
            f" found {named}",
            hint="do it by hand, then say so with `leeward isolation lift --despite-left`",
            code="attack-not-cut-off",
        )


def forget_left(component: str, state: StateStore) -> None:
    """A person says that what was left to them is done."""
    for cut in read_cuts(state, component):
        if cut.standing == "left":
            state.remove(partition(component), cut.sort, expected={"standing": "left"})


def _save(cut: Cut, before: Cut | None, state: StateStore) -> Cut:
    expected = {} if before is None else {"at": before.to_json()["at"]}
    if not state.replace(partition(cut.component), cut.sort, cut.to_json(), expected=expected):
        raise Unavailable(
            f"expected {cut.sort} of {cut.component} as it was read, found it changed meanwhile",
            hint="another run isolates or lifts the same component; it is tried again",
            code="isolated-meanwhile",
        )
    return cut


def _cut_of(item: dict[str, Any]) -> Cut:
    return Cut.from_json({name: value for name, value in item.items() if name != "sort"})
