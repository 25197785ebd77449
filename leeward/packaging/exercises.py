"""CloudFormation parts for the exercises: the tick that begins and judges them, and its alarms."""

from __future__ import annotations

from datetime import timedelta

from chalicelib.plan.model import Plan
from leeward.packaging.parts import Resources, schedule, sign_alarm, silence_alarm

SUBJECT = "exercises"
TICK = timedelta(minutes=15)


def exercise_resources(plan: Plan) -> Resources:
    """The same in both stacks: each looks after the exercises that run in its region."""
    resources = schedule(
        plan, SUBJECT, "tick", "exercise", f"rate({TICK.seconds // 60} minutes)", {}
    )
    failing = "an exercise was missed, or did not succeed"
    resources |= sign_alarm(SUBJECT, "failing", "ExercisesFailing", failing, holds=True)
    resources |= silence_alarm(
        SUBJECT, "tick-silent", "Taken.exercises", TICK, "nobody looks whether exercises are due"
    )
    return resources
