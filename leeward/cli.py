"""The `leeward` command. Each sub-command lives in leeward/commands/ and is imported when used."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import click

from chalicelib.errors import LeewardError

COMMANDS = {
    "check": "Check a plan for contradictions.",
    "explain": "Print one scenario of a plan as the run it will be.",
    "compile": "Write plan.json, state machines and template parts.",
    "drill": "Run a scenario against real damage in the local cloud.",
    "prove": "Back up, restore and verify any PostgreSQL you can reach.",
    "cloud": "Run the local cloud.",
    "package": "Make the zip and the CloudFormation template.",
    "evidence": "Verify an evidence bundle.",
}


class LazyCommands(click.Group):
    """Imports a sub-command only when it is asked for: `leeward --help` costs no AWS import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"leeward.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leeward")
def cli() -> None:
    """A disaster-recovery plan that runs."""


def show_error(error: LeewardError, *, as_json: bool) -> None:
    """One error for a person (stderr) or for a machine (one JSON line on stdout)."""
    if as_json:
        click.echo(json.dumps({"error": error.to_json()}))
        return
    click.echo(f"ERROR [{error.instance_code}]: {error.message}", err=True)
    if error.hint:
        click.echo(f"HINT: {error.hint}", err=True)


def main(arguments: list[str] | None = None) -> Any:
    """Exit status: 0 done, 1 refused or failed, 2 the input cannot be used."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        return cli.main(args=words, prog_name="leeward", standalone_mode=True)
    except LeewardError as error:
        asked_json = "json" in words and "--format" in words or "--format=json" in words
        show_error(error, as_json=asked_json)
        sys.exit(2 if error.code in ("plan-unreadable", "bad-input") else 1)
