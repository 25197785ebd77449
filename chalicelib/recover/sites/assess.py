"""What a disaster left, and what has to be rebuilt: from what answers and what does not.

    probes, all at once, each with a deadline -> Facts -> judge -> decide_scope -> Scope
                                                    a person's answer -> change_scope

Silence is an answer: what does not tell in time, or could not be asked, counts as lost when the
recovery is planned. What serves is left alone, unless it depends on what is rebuilt.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from chalicelib.errors import BadInput
from chalicelib.plan.records import Record, format_time
from chalicelib.ports.infrastructure import Sighting

Verdict = Literal["serving", "degraded", "gone", "unknown"]
Action = Literal["rebuild", "keep", "leave"]

# What holds data of its own, which must come from a copy; the rest is deployed or made again.
HOLDS_DATA = frozenset({"postgres", "bucket", "redis", "files", "git"})
# Moved when everything else stands, whatever they themselves depend on.
LAST = frozenset({"names"})


@dataclass(frozen=True)
class CopyFacts(Record):
    """The best copy of a component. `why`: what speaks for it, and what was wrong with others."""

    location: str
    point: str
    taken_at: datetime
    proven_at: datetime | None
    why: str


@dataclass(frozen=True)
class Facts(Record):
    """What was seen of a component.

    `restored`: the scenario brings it back. `copy`: None when no location has a usable one, and
    `copies` says what each answered. `seconds`: how long bringing it back takes at worst, None
    when nobody knows.
    """

    component: str
    kind: str
    site: str
    depends_on: tuple[str, ...]
    restored: bool
    sightings: tuple[Sighting, ...]
    copy: CopyFacts | None
    copies: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class ScopeItem(Record):
    """What becomes of one component, and why. `stage` counts from 1; 0 is not rebuilt.

    `warnings`: what a person must know before agreeing.
    """

    component: str
    verdict: Verdict
    action: Action
    why: str
    stage: int = 0
    copy: CopyFacts | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scope(Record):
    """The whole decision. `site`: where it is rebuilt, "" where it was.

    worst_seconds: the stages one after another, each as long as its slowest; None when a time in
    it is not known (`untimed`).
    """

    site: str
    items: tuple[ScopeItem, ...]
    worst_seconds: float | None
    untimed: tuple[str, ...]

    @property
    def rebuilt(self) -> tuple[str, ...]:
        """In the order of rebuilding."""
        chosen = sorted((it for it in self.items if it.stage), key=lambda it: it.stage)
        return tuple(it.component for it in chosen)

    @property
    def serving(self) -> tuple[str, ...]:
        return tuple(it.component for it in self.items if it.verdict == "serving")

    @property
    def unrestorable(self) -> tuple[str, ...]:
        """What has to come from a copy, and has none."""
        return tuple(
            it.component for it in self.items if it.stage and it.warnings[:1] == (NO_COPY,)
        )


NO_COPY = "no location answers with a copy that may be restored"


def judge(sightings: Sequence[Sighting]) -> Verdict:
    """One word for what the probes of a component saw. Pure.

    "gone" needs the network's own word that nobody is there; silence alone is "unknown".
    """
    seen = {it.reach for it in sightings}
    if seen and seen <= {"serves"}:
        return "serving"
    if seen & {"serves", "falters"}:
        return "degraded"
    return "gone" if "refuses" in seen else "unknown"


def decide_scope(
    facts: Sequence[Facts],
    *,
    lost: Collection[str],
    site: str,
    now: datetime,
    proof_valid_for: timedelta | None = None,
) -> Scope:
    """What is rebuilt, from which copy, in which order, and how long it takes at worst. Pure.

    Args:
        lost: sites that the scenario gives up; what is degraded there is rebuilt, elsewhere kept.
        site: where it is rebuilt.
    Returns:
        every component of `facts` once; whatever depends on what is rebuilt is rebuilt after it.
    """
    by_name = {it.component: it for it in facts}
    verdicts = {name: judge(it.sightings) for name, it in by_name.items()}
    chosen = {
        name: why
        for name, it in by_name.items()
        if it.restored and it.kind not in LAST and (why := _why_rebuilt(it, verdicts[name], lost))
    }
    _add_dependants(chosen, by_name)
    if chosen:
        chosen |= {n: "names follow what moved" for n, it in by_name.items() if _follows(it)}
    stages = _stages(chosen, by_name)
    items = tuple(
        _item(it, verdicts[name], chosen.get(name), stages.get(name, 0), now, proof_valid_for)
        for name, it in by_name.items()
    )
    return _scope(site, items)


def _follows(facts: Facts) -> bool:
    return facts.restored and facts.kind in LAST


def _why_rebuilt(facts: Facts, verdict: Verdict, lost: Collection[str]) -> str:
    told = "; ".join(it.found for it in facts.sightings if it.reach != "serves")
    if verdict == "serving" or (verdict == "degraded" and facts.site not in lost):
        return ""
    meaning = {"unknown": "silence counts as lost", "gone": "gone", "degraded": "its site is lost"}
    return f"{meaning[verdict]}: {told or 'nothing could be asked'}"


def _add_dependants(chosen: dict[str, str], by_name: Mapping[str, Facts]) -> None:
    while True:
        more = {
            name: f"depends on {', '.join(sorted(set(it.depends_on) & set(chosen)))}"
            for name, it in by_name.items()
            if name not in chosen and it.restored and set(it.depends_on) & set(chosen)
        }
        if not more:
            return
        chosen |= more


def _stages(chosen: Collection[str], by_name: Mapping[str, Facts]) -> dict[str, int]:
    """1 for what waits for nothing that is rebuilt. A circle of the plan's ends in one stage."""
    stages: dict[str, int] = {}
    waiting = [name for name in chosen if by_name[name].kind not in LAST]
    stage = 0
    while waiting:
        stage += 1
        ready = [name for name in waiting if not set(by_name[name].depends_on) & set(waiting)]
        for name in ready or waiting:
            stages[name] = stage
        waiting = [name for name in waiting if name not in stages]
    return stages | {name: stage + 1 for name in chosen if name not in stages}


def _item(
    facts: Facts,
    verdict: Verdict,
    why: str | None,
    stage: int,
    now: datetime,
    proof_valid_for: timedelta | None,
) -> ScopeItem:
    if why is None:
        action, why = _why_not(facts, verdict)
        return ScopeItem(facts.component, verdict, action, why)
    warnings = _warnings(facts, now, proof_valid_for)
    return ScopeItem(
        facts.component, verdict, "rebuild", why, stage, facts.copy, facts.seconds, warnings
    )


def _why_not(facts: Facts, verdict: Verdict) -> tuple[Action, str]:
    if verdict == "serving":
        return "keep", "it serves"
    if facts.kind in LAST:
        return "keep", "nothing else moves"
    if not facts.restored:
        return "leave", "the scenario has no step that brings it back: a person must"
    return "keep", "it answers, not well, and its site is not lost"


def _warnings(facts: Facts, now: datetime, valid_for: timedelta | None) -> tuple[str, ...]:
    if facts.kind not in HOLDS_DATA:
        return ()
    if facts.copy is None:
        return (NO_COPY, *facts.copies)
    proven = facts.copy.proven_at
    if proven is None:
        return ("its copy was never proven by a restore",)
    if valid_for is not None and now - proven > valid_for:
        return (f"the proof of its copy is of {format_time(proven)}, older than the plan allows",)
    return ()


def _scope(site: str, items: tuple[ScopeItem, ...]) -> Scope:
    staged: dict[int, list[float | None]] = {}
    for item in items:
        if item.stage:
            staged.setdefault(item.stage, []).append(item.seconds)
    untimed = tuple(it.component for it in items if it.stage and it.seconds is None)
    total = None if untimed else sum(max(filter(None, it), default=0.0) for it in staged.values())
    return Scope(site, items, total, untimed)


def change_scope(scope: Sequence[str], answer: str, known: Collection[str]) -> tuple[str, ...]:
    """The scope as a person wants it: "+redis -code" adds and leaves out; anything else, as "ok",
    or nothing at all, agrees. Pure.

    Raises:
        BadInput: code "unknown-component", for a name that the plan does not have.
    """
    changes = [word for word in answer.replace(",", " ").split() if word[:1] in "+-"]
    unknown = [word[1:] for word in changes if word[1:] not in known]
    if unknown:
        raise BadInput(
            f"expected components of the plan, found {', '.join(unknown)}",
            hint=f"answer with +NAME and -NAME; the plan has {', '.join(known)}",
            code="unknown-component",
        )
    left_out = {word[1:] for word in changes if word.startswith("-")}
    added = [word[1:] for word in changes if word.startswith("+")]
    return tuple(dict.fromkeys(it for it in (*scope, *added) if it not in left_out))


Ask = Callable[[], Any]


@dataclass(frozen=True)
class Asked:
    """What a question came to: its answer, or None when it was not back in time."""

    answer: Any
    seconds: float


def ask_all(questions: Mapping[str, tuple[Ask, float]]) -> dict[str, Asked]:
    """Ask everything at once and be back when the last deadline is over, whatever hangs.

    Args:
        questions: name -> (the question, seconds it may take). It answers with what it could not
            find out, too: what it raises is on the log, and no answer.
    """
    answers: dict[str, Asked] = {}
    began = time.monotonic()

    def ask(name: str, question: Ask) -> None:
        answers[name] = Asked(question(), round(time.monotonic() - began, 3))

    threads = {}
    for name, (question, _seconds) in questions.items():
        threads[name] = threading.Thread(target=ask, args=(name, question), daemon=True)
        threads[name].start()
    for name, (_question, seconds) in questions.items():
        threads[name].join(max(0.0, began + seconds - time.monotonic()))
    in_time = dict(answers)  # a late one must not change what is decided on
    return {name: in_time.get(name) or Asked(None, s) for name, (_, s) in questions.items()}
