"""One step of a run: done once, recorded before and after, its result kept for whoever asks again.

    started (record) -> work -> finished (record) -> result (state)

A death before the result is kept means that the work is done again: steps are safe to repeat, and
the records have keys, so that the second time leaves one record of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.errors import BadInput, CheckFailed, LeewardError
from chalicelib.incidents.incident import Desk
from chalicelib.plan.records import format_time, parse_time


@dataclass(frozen=True)
class Run:
    """A run as one of its steps sees it.

    component: what the incident is about: a component, or the site that is lost. moment: a
    person's override of what to recover to. drill: act on stand-ins alone. site: where the
    recovery happens; "" where the component is.
    """

    run_id: str
    step: str
    incident_id: str
    scenario: str
    component: str
    alarm_at: datetime
    moment: str | None
    drill: bool = False
    site: str = ""


Work = Callable[[Run, dict[str, Any]], dict[str, Any]]


# What the state holds of a run: sort key -> item.
Kept = Mapping[str, dict[str, Any]]


def read_kept(run_id: str, *, desk: Desk) -> Kept:
    """All of it by one request, where the items that a step looks for before it begins would take
    one each."""
    return {item["sort"]: item for item in desk.state.query(f"run#{run_id}")}


def resume_records(incident: str, kept: Kept, *, desk: Desk) -> None:
    """Go on with the incident's records where the run's start, or its last step, left them."""
    marks = [item["mark"] for item in kept.values() if "mark" in item]
    if marks:
        desk.records.resume(incident, max(marks, key=lambda it: int(it["seq"])))


def load_run(run_id: str, *, desk: Desk, step: str = "") -> Run:
    """Raises BadInput (code "unknown-run") when no such run was started."""
    return run_of(run_id, desk.state.get(f"run#{run_id}", "run"), step=step)


def run_of(run_id: str, found: dict[str, Any] | None, *, step: str) -> Run:
    """The run that an item of the state tells of. Raises as `load_run`."""
    if found is None:
        raise BadInput(
            f"there is no run {run_id!r}",
            hint="runs are started by an alarm or by a person, never by a step",
            code="unknown-run",
        )
    return Run(
        run_id=run_id,
        step=step,
        incident_id=found["incident_id"],
        scenario=found["scenario"],
        component=found["component"],
        alarm_at=parse_time(found["alarm_at"]),
        moment=found["moment"],
        drill=bool(found.get("drill")),
        site=found.get("site", ""),
    )


def run_step(
    event: dict[str, Any], work: Work, *, desk: Desk, kept: Kept | None = None
) -> dict[str, Any]:
    """The outputs of the step in `event`: of this attempt, or of the one that was recorded.

    Args:
        event: {"run_id", "step", "uses", "does", "inputs", "within"?}, as a state machine sends it.
        work: does the step; returns its outputs with at least `found`.
        kept: of the run, when it was read already.
    Raises:
        LeewardError: what `work` raised, after it was recorded.
        CheckFailed: code "step-late": an attempt before this one took longer than it may.
    """
    run_id, step = event["run_id"], event["step"]
    kept = read_kept(run_id, desk=desk) if kept is None else kept
    if (done := kept.get(f"step#{step}")) is not None:
        return dict(done["outputs"])
    run = run_of(run_id, kept.get("run"), step=step)
    resume_records(run.incident_id, kept, desk=desk)
    attempt = _count_attempt(desk, run_id, f"attempts#{step}", kept)
    _say_unanswered(desk, run, kept)
    _say(desk, run, "step-started", {"attempt": attempt, "does": event.get("does", "")})
    started_at = desk.clock.now()
    try:
        _require_in_time(event, kept)
        outputs = work(run, event["inputs"])
    except LeewardError as error:
        _say(desk, run, "step-failed", error.to_json() | {"attempt": attempt})
        raise
    seconds = round((desk.clock.now() - started_at).total_seconds(), 3)
    body = {"found": outputs["found"], "outputs": outputs, "seconds": seconds, "outcome": "ok"}
    said = _say(desk, run, "step-finished", body, key=f"{run_id}/{step}/finished")
    # What stands in the record is the step's result, also when an earlier attempt wrote it.
    result = {"outputs": said["outputs"], "seconds": said["seconds"]}
    mark = desk.records.mark(run.incident_id)
    desk.state.create(f"run#{run_id}", f"step#{step}", result | {"mark": mark})
    return dict(result["outputs"])


def _say_unanswered(desk: Desk, run: Run, kept: Kept) -> None:
    """A step that was to be approved begins without a verdict: its plan has it `proceed` then."""
    asked = kept.get(f"question#approve#{run.step}")
    if asked is None or f"verdict#approve#{run.step}" in kept:
        return
    why = f"not enough people answered in {asked['question']['within_seconds']} s, and the plan"
    body = {"what": "go on unanswered", "why": f"{why} says to proceed", "alternatives": ["stop"]}
    _say(desk, run, "decision", body, key=f"{run.run_id}/{run.step}/unanswered")


def undo_step(event: dict[str, Any], work: Work, *, desk: Desk) -> dict[str, Any]:
    """Take back what the step in `event` did; nothing when it never began, once when it did.

    started (record) -> work -> undone (record) -> kept (state); a death in between has it done
    again, which finds things as the dead attempt left them.

    Args:
        event: as for `run_step`; its inputs are those that the plan gives as constants.
    Raises:
        LeewardError: what `work` raised, after it was recorded.
        CheckFailed: as `run_step`.
    """
    run_id, step = event["run_id"], event["step"]
    kept = read_kept(run_id, desk=desk)
    if f"attempts#{step}" not in kept:
        return {"found": "it never began"}
    if (undone := kept.get(f"undone#{step}")) is not None:
        return {"found": undone["found"]}
    run = run_of(run_id, kept.get("run"), step=step)
    resume_records(run.incident_id, kept, desk=desk)
    attempt = _count_attempt(desk, run_id, f"undoing#{step}", kept)
    _say(desk, run, "undo-started", {"attempt": attempt})
    try:
        _require_in_time(event, kept)
        outputs = work(run, event["inputs"])
    except LeewardError as error:
        _say(desk, run, "undo-failed", error.to_json() | {"attempt": attempt})
        raise
    body = {"found": outputs["found"], "attempt": attempt}
    said = _say(desk, run, "step-undone", body, key=f"{run_id}/{step}/undone")
    result = {"found": said["found"]}
    desk.state.create(f"run#{run_id}", f"undone#{step}", result)
    return result


def leave_word(event: dict[str, Any], *, desk: Desk) -> None:
    """That an attempt of the step in `event` ends now, because it is late."""
    word = {"within": event["within"], "at": format_time(desk.clock.now())}
    desk.state.create(f"run#{event['run_id']}", _late(event), word)


def _require_in_time(event: dict[str, Any], kept: Kept) -> None:
    """A further attempt would be late as well, and the plan allows for one. A task has its own
    time, so its event has none."""
    if "within" not in event or _late(event) not in kept:
        return
    raise CheckFailed(
        f"expected {event['step']} to end within {event['within']} s, it was still at work then "
        "and was ended",
        hint="see what it waited for in its log; where it needs longer, give the step a `timeout`",
        code="step-late",
    )


def _late(event: dict[str, Any]) -> str:
    return f"late#undo#{event['step']}" if event.get("undo") else f"late#{event['step']}"


def find_left_behind(run_id: str, steps: Iterable[str], *, desk: Desk) -> list[str]:
    """Of steps that are to be taken back, those that began and were not: something may be left."""
    kept = read_kept(run_id, desk=desk)
    return [step for step in steps if f"attempts#{step}" in kept and f"undone#{step}" not in kept]


def _count_attempt(desk: Desk, run_id: str, sort: str, kept: Kept) -> int:
    """1 for the first attempt, and one more for each that began before this one."""
    partition, found = f"run#{run_id}", kept.get(sort)
    while True:
        count = int(found["count"]) + 1 if found else 1
        item = {"count": count, "at": format_time(desk.clock.now())}
        if found is None:
            won = desk.state.create(partition, sort, item)
        else:
            won = desk.state.replace(partition, sort, item, expected={"count": count - 1})
        if won:
            return count
        found = desk.state.get(partition, sort)


def _say(desk: Desk, run: Run, kind: str, body: dict[str, Any], *, key: str = "") -> dict[str, Any]:
    record = desk.records.append(
        run.incident_id, kind, body, actor="leeward", run_id=run.run_id, step=run.step, key=key
    )
    return record.body
