"""What Ctrl-C leaves of a command, and how to go on: one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

GO_ON = "run it again, and it goes on from there"
NOTHING = "nothing was changed"
# What is one write, which was made or not.
ONE_WRITE = "it was done or it was not; look, and run it again"
IN_AWS = "what has begun goes on in AWS"
ONE_KEY = "each data key has its old recipients or the new ones"
LEFT: Mapping[str, str] = {
    "sync --shards": f"{IN_AWS}; run it again without --shards, or look at its state machine",
    "sync": f"what was copied stays; {GO_ON}",
    "copy": f"what was copied stays, a point that is not whole is in no catalogue; {GO_ON}",
    "verify": "what was repaired stays; run it again",
    "prune": f"what was removed is gone, what is left is whole; {GO_ON}",
    "take": "no recovery point was entered; run it again",
    "prove": "what it started is ended, production was only read; run it again",
    "drill": "what it started is ended and removed; run it again",
    "restore bucket": f"keys that are back stay so; {GO_ON}",
    "restore inventory": f"what was copied stays; {GO_ON}",
    "restore point": "no folder has its name before it is whole, keys that came stay; run it again",
    "restore rows": "rows come in one transaction, all or none; run it again, it tells which",
    "keys rewrap": f"{ONE_KEY}; {GO_ON}",
    "keys update": f"{ONE_KEY}; {GO_ON}",
    "catalogue rebuild": f"the index may lack points, the copies have all; {GO_ON}",
    "catalogue unquarantine": f"what was freed stays free; {GO_ON}",
    "signs plant": f"what was planted stays; {GO_ON}",
    "isolation lift": f"what was taken down stays so; {GO_ON}",
    "unfence": f"what was given back stays so; {GO_ON}",
    "break-glass": f"what was done stands in its records; {GO_ON}",
    "run": f"{IN_AWS}; see leeward incident list",
    "failback": f"{IN_AWS}; see leeward incident list",
    "exercises run": f"{IN_AWS}; see leeward exercises list",
    "compile": "what was written is not whole; run it again",
    "package": "what was written is not whole; run it again",
} | dict.fromkeys(
    (
        "check", "explain", "names", "dashboard", "api describe", "cloud env", "evidence verify",
        "exercises list", "incident list", "incident show", "incident messages", "status show",
        "status render", "review show", "review fetch", "action list", "lessons", "plan review",
        "people list", "token list", "catalogue list", "signs show", "isolation list", "keys show",
        "catalogue strays",
    ),
    NOTHING,
)  # fmt: skip


def tell_stopped(group: click.Group, words: Sequence[str], *, asked: bool) -> str:
    """One line for stderr.

    Args:
        group: `leeward` itself, to tell its sub-commands from names.
        words: as they stood behind it.
        asked: it ended at a question, before anything was done.
    """
    named = _named(group, words)
    left = ONE_WRITE
    if asked or "--dry-run" in words or not named:
        left = NOTHING
    else:
        started = f"{named} --shards" if "--shards" in words else named
        begun = [it for it in LEFT if f"{started} ".startswith(f"{it} ")]
        left = LEFT[max(begun, key=len)] if begun else ONE_WRITE
    return f"STOPPED {' '.join(('leeward', named)).rstrip()}: {left}"


def _named(group: click.Group, words: Sequence[str]) -> str:
    command: click.Command = group
    named: list[str] = []
    for word in words:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), word)
        if found is None:
            break
        named.append(word)
        command = found
    return " ".join(named)
