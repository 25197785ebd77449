"""What is said after Ctrl-C: every command has its word, and the one that fits it."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from leeward.cli import cli
from leeward.stopped import LEFT, NOTHING, ONE_WRITE, tell_stopped


def leaves(command: click.Command, named: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        yield named
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found
        yield from leaves(found, (*named, name))


def options(named: tuple[str, ...]) -> set[str]:
    command: click.Command = cli
    for name in named:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found
        command = found
    return {option for it in command.params for option in it.opts}


@pytest.mark.parametrize("named", list(leaves(cli)), ids=" ".join)
def test_every_command_says_what_it_leaves(named: tuple[str, ...]) -> None:
    told = tell_stopped(cli, [*named, "a-name", "--plan", "p.yaml"], asked=False)
    assert told.startswith(f"STOPPED leeward {' '.join(named)}: ")
    assert "\n" not in told
    assert len(told) <= 130
    changes_much = "--dry-run" in options(named) and named[-1] not in ("hold", "release", "clear")
    if changes_much:
        assert not told.endswith((NOTHING, ONE_WRITE)), "what is left, and how to go on"


def test_what_goes_on_elsewhere_is_not_called_stopped() -> None:
    told = tell_stopped(cli, ["sync", "c", "--shards"], asked=False)
    assert told.startswith("STOPPED leeward sync: what has begun goes on in AWS")


def test_the_words_are_of_commands_that_there_are() -> None:
    known = [" ".join(named) for named in leaves(cli)]
    named = [left.partition(" --")[0] for left in LEFT]
    assert [
        left for left in named if not any(f"{it} ".startswith(f"{left} ") for it in known)
    ] == []


@pytest.mark.parametrize(
    ("words", "asked"),
    [(["sync", "c", "--dry-run"], False), (["restore", "bucket", "b"], True), ([], False)],
)
def test_what_had_done_nothing_says_so(words: list[str], asked: bool) -> None:
    assert tell_stopped(cli, words, asked=asked).endswith(f": {NOTHING}")
