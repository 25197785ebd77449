"""Which commands can be tried without changing anything."""

from __future__ import annotations

from collections.abc import Iterator

import click

from leeward.cli import cli
from leeward.stopped import LEFT, NOTHING
from tests.commands import ROOT

DOCUMENTED = (ROOT / "docs/commands.md").read_text().partition("## leeward check")[0]
# What they start has ended with them, or is a run.
OF_THEIR_OWN = {"drill", "prove", "run", "failback", "exercises run"}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        else:
            yield " ".join((*path, name)), found


def has_dry_run(command: click.Command) -> bool:
    return any("--dry-run" in option.opts for option in command.params)


def test_a_command_that_goes_on_where_it_stopped_can_be_tried_or_the_page_says_why_not() -> None:
    """Those that leave something after Ctrl-C change more than one thing."""
    leaving = {name for name, left in LEFT.items() if left != NOTHING}
    without = {name for name, found in commands(cli) if not has_dry_run(found)}
    unexplained = (leaving & without) - OF_THEIR_OWN
    assert {name for name in unexplained if f"`{name}`" not in DOCUMENTED} == set()
    assert {"copy", "prune", "restore inventory", "sync", "take"} <= leaving - without
