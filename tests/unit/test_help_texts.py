"""What `--help` says fits on a terminal of 80 columns, whatever the command."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from leeward.cli import cli


def commands(command: click.Command, parent: click.Context | None) -> Iterator[click.Context]:
    context = click.Context(command, parent, command.name, max_content_width=80, terminal_width=80)
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, context)


@pytest.mark.parametrize(
    "context", [pytest.param(it, id=it.command_path) for it in commands(cli, None)]
)
def test_help_fits_into_80_columns(context: click.Context) -> None:
    lines = context.get_help().splitlines()
    assert [line for line in lines if len(line) > 80] == []
