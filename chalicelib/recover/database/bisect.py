"""Find the transaction after which a database is unsound, in few restores. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

Step = TypeVar("Step")


def bisect_states(
    steps: Sequence[Step], is_sound_before: Callable[[Step], bool], *, likely: Sequence[int] = ()
) -> int:
    """The index of the step that made a sound state unsound.

    Sound before the first step and unsound after the last one are taken as known; between them
    soundness is lost once. Asks about log2(len(steps)) times, or twice when it is the first of the
    `likely` indexes.

    Raises:
        ValueError: there are no steps.
    """
    if not steps:
        raise ValueError("no steps to bisect")
    sound, unsound = 0, len(steps)
    guesses = deque(place for index in likely for place in (index, index + 1))
    while unsound - sound > 1:
        place = guesses.popleft() if guesses else (sound + unsound) // 2
        if not sound < place < unsound:
            continue
        if is_sound_before(steps[place]):
            sound = place
        else:
            unsound = place
    return sound
