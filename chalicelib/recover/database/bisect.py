"""Find the transaction after which a database is unsound, in few restores. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Step = TypeVar("Step")


def bisect_states(steps: Sequence[Step], is_sound_before: Callable[[Step], bool]) -> int:
    """The index of the step that made a sound state unsound.

    Sound before the first step and unsound after the last one are taken as known; between them
    soundness is lost once. Asks about log2(len(steps)) times.

    Raises:
        ValueError: there are no steps.
    """
    if not steps:
        raise ValueError("no steps to bisect")
    sound, unsound = 0, len(steps)
    while unsound - sound > 1:
        middle = (sound + unsound) // 2
        if is_sound_before(steps[middle]):
            sound = middle
        else:
            unsound = middle
    return sound
