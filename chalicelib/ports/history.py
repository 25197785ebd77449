"""What was measured before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol


class MetricHistory(Protocol):
    """The data points that Leeward's functions put, as they are kept."""

    def moments(
        self, wanted: Mapping[str, Iterable[str]], *, start: datetime, end: datetime
    ) -> dict[str, tuple[datetime, ...]]:
        """component -> names of metrics, to component -> when any of them was put, oldest first.

        To the minute, and never later than it was. Raises Unavailable.
        """

    def latest(
        self, wanted: Iterable[tuple[str, str]], *, start: datetime, end: datetime
    ) -> dict[tuple[str, str], datetime]:
        """When each (component, metric) was last put as 1 or more; what was not is left out.

        To the hour, to the day where more than 63 days are asked for, and never later than it was.

        Raises Unavailable.
        """
