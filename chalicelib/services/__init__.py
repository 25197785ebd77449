"""What each Lambda does, for app.py; and, in build.py, what it does it with.

Nothing is imported, opened or read before a Lambda is invoked: each function imports its own part.
"""

from __future__ import annotations

from typing import Any

Event = dict[str, Any]


def on_alarm(event: Event) -> Event:
    """A CloudWatch alarm went to ALARM: open or join the incidents that the plan names for it, or
    tell people. Each minute it looks for those that are raised.

    A person who declares one comes in by the same door.
    """
    from chalicelib.services.jobs.alarms import on_signal

    return on_signal(event)


def back_up(event: Event) -> Event:
    """Take a base backup: {"component", "kind": "full" | "incremental"}."""
    from chalicelib.services.jobs.databases import back_up

    return back_up(event["component"], event["kind"])


def fetch_wal(event: Event) -> Event:
    """Store the WAL written since the last tick: {"component"}."""
    from chalicelib.services.jobs.databases import fetch_wal

    return fetch_wal(event["component"])


def take(event: Event) -> Event:
    """Take a recovery point of a key-value store: {"component", "kind"}."""
    from chalicelib.services.jobs.taking import take

    return take(event["component"], event["kind"])


def copy(event: Event) -> Event:
    """Copy recovery points and WAL to another location: {"component", "location"}, and "long": how
    long objects are put down."""
    from chalicelib.services.jobs.copying import copy

    return copy(event["component"], event["location"], event.get("long", {}))


def check(event: Event) -> Event:
    """Check the copies in one location: {"component", "location"}."""
    from chalicelib.services.jobs.checking import check

    return check(event["component"], event["location"])


def prove(event: Event) -> Event:
    """Restore a point into something that is thrown away: {"component"}, "location", "spot",
    "seed"; "exercise": of whose restore test it is a part."""
    from chalicelib.services.jobs.proving import prove
    from chalicelib.services.jobs.restore_tests import prove_for

    if event.get("exercise"):
        return prove_for(event["exercise"], event["component"], event.get("location", ""))
    spot, seed = bool(event.get("spot")), event.get("seed")
    return prove(event["component"], event.get("location", ""), spot=spot, seed=seed)


def arrive(event: Event) -> Event:
    """S3 tells of an object that was written to the backup bucket."""
    from chalicelib.services.jobs.checking import arrive

    return arrive(event)


def repair(event: Event) -> Event:
    """Mend what was found: {"component"}, and {"location", "findings"} of what is new."""
    from chalicelib.services.jobs.checking import repair
    from chalicelib.verify.copies.findings import Finding

    findings = tuple(Finding.from_json(item) for item in event.get("findings", ()))
    return repair(event["component"], event.get("location", ""), findings)


def prune(event: Event) -> Event:
    """Remove what the plan no longer keeps: {"component"}."""
    from chalicelib.services.jobs.pruning import prune

    return prune(event["component"])


def expire_versions(event: Event) -> Event:
    """Remove the versions of a bucket's replica that the plan no longer keeps: {"component"}, or
    with "seconds"."""
    from chalicelib.services.jobs.expiring import expire_versions

    more = {"seconds": float(event["seconds"])} if "seconds" in event else {}
    return expire_versions(event["component"], **more)


def extend_locks(event: Event) -> Event:
    """Lock what the plan keeps for as long as it keeps it: {"component"}."""
    from chalicelib.services.jobs.pruning import extend_locks

    return extend_locks(event["component"])


def replicate(event: Event) -> Event:
    """S3 tells of an object that was written to, or deleted from, a bucket of the plan."""
    from chalicelib.services.jobs.buckets import replicate

    return replicate(event)


def sync(event: Event) -> Event:
    """Make a bucket's replica what the bucket is: {"component"}, or with "location", "seconds".

    With "doubted", keys that a check found wrong there, these alone are brought again.
    """
    from chalicelib.services.jobs.buckets import sync
    from chalicelib.services.jobs.doubted import bring_again

    if "doubted" in event:
        return bring_again(event["component"], event["location"], event["doubted"])
    more = {"seconds": float(event["seconds"])} if "seconds" in event else {}
    return sync(event["component"], event.get("location", ""), **more)


def watch_bucket(event: Event) -> Event:
    """Look for signs of ransomware in a bucket: {"component"}."""
    from chalicelib.services.jobs.bucket_watch import watch_bucket

    return watch_bucket(event["component"])


def plan_shards(event: Event) -> Event:
    """Begin the sync of very many objects; its state machine asks (services/jobs/many.py)."""
    from chalicelib.services.jobs.many import plan_shards

    return plan_shards(event)


def copy_shard(event: Event) -> Event:
    """Do one shard of such a sync."""
    from chalicelib.services.jobs.many import copy_shard

    return copy_shard(event)


def finish_shards(event: Event) -> Event:
    """Count what came of the shards, and write down what the replica holds."""
    from chalicelib.services.jobs.many import finish_shards

    return finish_shards(event)


def batch_copy(event: Event) -> Event:
    """Start the jobs of S3 Batch Operations, or ask how far they are."""
    from chalicelib.services.jobs.many import batch_copy

    return batch_copy(event)


def watch(event: Event) -> Event:
    """Probe a component and publish what fails: {"component"}."""
    from chalicelib.services.jobs.watching import watch

    return watch(event["component"])


def heartbeat(event: Event) -> Event:
    """Tell the other region that this one works."""
    from chalicelib.services.jobs.outage import write_heartbeat

    return write_heartbeat()


def probe(event: Event) -> Event:
    """Look at the other site, or hear what an alarm or AWS Health says of it, and decide."""
    from chalicelib.services.jobs.outage import look

    return look(event)


def run_step(event: Event) -> Event:
    """Do one step of a run, as its state machine asks; {"warm": true, "run_id"} only makes ready
    for it.

    One that needs more than this Lambda has is left to a task: {"runs_in": "task"}; asked again,
    with the token of a state that waits, a task is found for it (services/steps/placing.py). A
    worker that takes longer than its state waits ends itself (services/steps/late.py).
    """
    if event.get("warm"):
        return warm(event)
    from chalicelib.services import build
    from chalicelib.services.steps.late import ends_when_late

    with ends_when_late(event, desk=build.desk()):
        return _do_step(event)


def _do_step(event: Event) -> Event:
    from chalicelib.incidents.run import read_kept, run_step, undo_step
    from chalicelib.scenarios.steps import STEP_KINDS
    from chalicelib.services import build
    from chalicelib.services.steps.code import undo_of, work_of

    if event.get("undo"):
        return undo_step(event, undo_of(event["uses"]), desk=build.desk())
    if "token" in event:
        from chalicelib.services.steps.placing import hand_to_task

        return hand_to_task(event)
    kind, kept = STEP_KINDS.get(event["uses"]), read_kept(event["run_id"], desk=build.desk())
    if kind and kind.in_task:
        from chalicelib.services.steps.placing import place

        if elsewhere := place(event, kept):
            return elsewhere
    outputs: Event = run_step(event, work_of(event["uses"]), desk=build.desk(), kept=kept)
    return outputs


def isolate(event: Event) -> Event:
    """A step of a run, or a person's {"lift": {"component", ...}} (steps/attack/isolation.py)."""
    if "lift" in event:
        from chalicelib.services.steps.attack.isolation import lift_by_hand

        return lift_by_hand(event["lift"])
    return run_step(event)


def close_run(event: Event) -> Event:
    """Record how a run ended, write its report, seal its evidence; see `run_step` for "warm".

    Or {"uses": "review.seal", ...}: the same for what people said of it afterwards.
    """
    if event.get("warm"):
        return warm(event)
    if event.get("uses") == "review.seal":
        from chalicelib.services.people.sealing import seal_review

        return seal_review(event)
    from chalicelib.services.steps.closing import close_run

    return close_run(event)


def exercise(event: Event) -> Event:
    """Begin the exercises that are due, judge those that have ended; see jobs/exercises.py."""
    from chalicelib.services.jobs.exercises import exercise

    return exercise(event)


def ask(event: Event) -> Event:
    """Put a question to people and keep the token that their answer will carry."""
    from chalicelib.services.people.answers import ask

    return ask(event)


def answer(event: Event) -> Event:
    """Take what a person says: an answer to a question, an acknowledgement, a declaration."""
    from chalicelib.services.people.answers import answer

    return answer(event)


def show(event: Event) -> Event:
    """What a person or a program wants to see: {"verb", ...}; nothing is changed."""
    from chalicelib.services.showing import show

    return show(event)


def chat(event: Event) -> Event:
    """Do what was said in Slack, and tell whoever said it."""
    from chalicelib.services.people.chatting import chat

    return chat(event)


def tell(event: Event) -> Event:
    """Send what is to be told, or do a step that tells somebody; see `run_step`.

    {"verb": "remind"}: write what people are reminded of today. {"verb": "seldom", "part",
    "promises"}: look whether what is seldom done was done in time.
    """
    if "uses" in event or event.get("warm"):
        return run_step(event)
    if event.get("verb") == "remind":
        from chalicelib.services.people.reminding import remind

        return remind()
    if event.get("verb") == "seldom":
        from chalicelib.services.jobs.seldom import look_at_seldom

        return look_at_seldom(event["part"], event["promises"])
    from chalicelib.services.people.messages import tell

    return tell(event)


def publish(event: Event) -> Event:
    """Look at the public services, and write the status page."""
    from chalicelib.services.people.status_page import publish

    return publish(event)


def escalate(event: Event) -> Event:
    """Call whoever the plan's escalation names now: {"incident", "subject"}."""
    from chalicelib.services.people.escalation import escalate

    return escalate(event)


def warm(event: Event) -> Event:
    """Import and open what a step needs, so that the step itself does not wait for it.

    The modules are imported for that alone (F401): nothing of them is called here. What the run
    keeps is read for the connection, for which the step would wait first; where it cannot be read,
    the step will say so.
    """
    from contextlib import suppress

    from chalicelib.errors import LeewardError
    from chalicelib.incidents.run import read_kept
    from chalicelib.services import build
    from chalicelib.services.steps import closing, placing  # noqa: F401
    from chalicelib.services.steps.database import (
        aside,  # noqa: F401
        find,  # noqa: F401
        rebuild,  # noqa: F401
        target,  # noqa: F401
    )

    build.plan()
    with suppress(LeewardError):
        read_kept(event["run_id"], desk=build.desk())
    return {"found": "warm"}
