"""When schedules are due (EventBridge rate() and cron()), and the clock that fires them.

Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

from __future__ import annotations

import re
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cronsim import CronSim, CronSimError

from chalicelib.errors import BadInput
from leeward.local.iam import ACCOUNT

if TYPE_CHECKING:
    from moto.events.models import Rule

    from leeward.local.cloud import LocalCloud

UNITS = {"minute": 60, "hour": 3600, "day": 86400}
RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
TICK_SECONDS = 1.0
CRON = re.compile(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) \*\)")


def next_due(expression: str, after: datetime) -> datetime:
    """The first moment after `after` (aware UTC) that the expression names; cron is in UTC.

    A rate counts from `after`, as AWS counts from the rule's creation.

    Raises:
        BadInput: not an expression that EventBridge takes, or a cron with a year.
    """
    if rate := RATE.fullmatch(expression):
        return after + timedelta(seconds=int(rate[1]) * UNITS[rate[2]])
    if cron := CRON.fullmatch(expression):
        minute, hour, day, month, weekday = cron.groups()
        fields = [minute, hour, day.replace("?", "*"), month, _weekday(weekday)]
        try:
            return next(CronSim(" ".join(fields), after.astimezone(UTC)))
        except (CronSimError, StopIteration) as error:
            raise BadInput(f"{expression!r} is not a schedule: {error}") from error
    raise BadInput(
        f"expected rate(...) or cron(...) without a year, found {expression!r}",
        hint="Write rate(5 minutes) or cron(0 2 * * ? *).",
    )


def _weekday(field: str) -> str:
    """EventBridge counts 1-7 from Sunday, cron 0-6 from Sunday."""
    return re.sub(r"(?<![#\d])\d", lambda it: str(int(it[0]) - 1), field.replace("?", "*"))


def scheduled_rules(region: str) -> list[Rule]:
    """The enabled rules with a schedule, on every bus of the region."""
    if "moto.events.models" not in sys.modules:
        return []
    from moto.events.models import events_backends

    buses = list(events_backends[ACCOUNT][region].event_buses.values())
    rules = [rule for bus in buses for rule in list(bus.rules.values())]
    return [rule for rule in rules if rule.scheduled_expression and rule.state == "ENABLED"]


class Ticker:
    """Once a second: fires the schedules that are due and lets alarms see missing data.

    The schedules' clock runs `speed` times as fast as the real one. A schedule that became due
    several times since the last tick fires once, as EventBridge promises "at least once a minute"
    and never a backlog.
    """

    def __init__(self, cloud: LocalCloud, *, speed: float, schedules: bool) -> None:
        self._cloud = cloud
        self._speed = speed
        self._schedules = schedules
        self._due: dict[str, datetime] = {}
        self._stopping = threading.Event()
        self._began = datetime.now(UTC)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def now(self) -> datetime:
        return self._began + (datetime.now(UTC) - self._began) * self._speed

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            for region in self._cloud.regions:
                if self._schedules:
                    self._fire_due(region)
                if "leeward.local.shims.cloudwatch" in sys.modules:
                    from leeward.local.shims import cloudwatch

                    cloudwatch.tick(region, datetime.now(UTC))

    def _fire_due(self, region: str) -> None:
        from leeward.local.shims.events import deliver, scheduled_event

        now = self.now()
        for rule in scheduled_rules(region):
            expression = str(rule.scheduled_expression)
            due = self._due.setdefault(rule.arn, next_due(expression, now))
            if due <= now:
                deliver(self._cloud, rule, scheduled_event(rule, due))
                self._due[rule.arn] = next_due(expression, now)
