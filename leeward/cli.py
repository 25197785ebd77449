"""The `leeward` command. Each sub-command lives in leeward/commands/ and is imported when used."""

from __future__ import annotations

import errno
import importlib
import json
import sys
from itertools import pairwise
from typing import Any

import click

from chalicelib.errors import BadInput, LeewardError, NotReady
from leeward.stopped import tell_stopped

COMMANDS = {
    "check": "Check a plan for contradictions.",
    "explain": "Print one scenario of a plan as the run it will be.",
    "names": "Ask name servers where a plan's names lead.",
    "compile": "Write plan.json, state machines and template parts.",
    "run": "Start a scenario for real, with a reason.",
    "failback": "Go back after a failover, with a reason.",
    "break-glass": "Fail over from a laptop, with AWS half gone.",
    "exercises": "Restore tests and drills: due, done, missed, and how fast.",
    "incident": "Incidents: listed, shown, acknowledged, declared, closed.",
    "alarms": "Alarms that are raised and start no scenario.",
    "status": "The status page: shown, written on, planned work.",
    "approve": "Approve a step that waits for it.",
    "decline": "Decline a step that waits for people.",
    "done": "Say that a person's step is done.",
    "review": "What people found out about an incident: written, finished.",
    "action": "What is to be done after incidents, until it is done.",
    "lessons": "The lessons-learned log.",
    "plan": "The plan's own review: how it stands, and that it was done.",
    "people": "Second factors of the plan's people.",
    "token": "Tokens of the API: issued, listed, revoked.",
    "dashboard": "A link to sign in to the dashboard with.",
    "api": "The API's OpenAPI document.",
    "drill": "Run a scenario against real damage in the local cloud.",
    "restore": "Take things back to how they were.",
    "prune": "Show what stays of the backups, remove what goes.",
    "unfence": "Give a fenced role its login back.",
    "prove": "Back up, restore and verify any PostgreSQL you can reach.",
    "take": "Take a recovery point of folders, Redis or git.",
    "sync": "Make a bucket's replica what the bucket is, now.",
    "signs": "Signs of ransomware in a bucket: shown, cleared; canaries.",
    "isolation": "What keeps an attack out: shown, lifted.",
    "copy": "Bring the plan's other locations up to date, now.",
    "verify": "Check the copies in every location, and repair them.",
    "catalogue": "Recovery points: what there is, and what is held.",
    "locations": "Places that backups go to: set up.",
    "cloud": "Run the local cloud.",
    "package": "Make the zip and the CloudFormation template.",
    "evidence": "Verify an evidence bundle.",
    "keys": "Keys of copies that lie outside AWS.",
}
OTHERS_WORDS = ("log", "output")
"""Where an error's context keeps what another program said."""
SHOWN_LINES = 20


class LazyCommands(click.Group):
    """Imports a sub-command only when it is asked for: `leeward --help` costs no AWS import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if cmd_name.startswith("-"):
                return None
            raise click.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        module = importlib.import_module(f"leeward.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leeward")
def cli() -> None:
    """A disaster-recovery plan that runs.

    \b
    leeward drill database-corruption --plan policies/plans/nexus-studio.yaml
    leeward check policies/plans/nexus-studio.yaml
    leeward prove postgresql://role@host/database

    Exit status: 0 done; 1 refused, failed, or something wrong was found; 2 the input cannot be
    used; 130 ended by Ctrl-C: STOPPED on stderr says what is left, and how to go on. Every error
    has a code: ERROR [code] and a HINT on stderr, or with --format json one object {"error": ...}
    on stdout.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command and exit; the help of `leeward` tells the exit status.

    What Leeward raises on purpose, and what click says of wrong words, becomes one error without
    a traceback. Anything else keeps its traceback.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(cli.main(args=words, prog_name="leeward", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        end_with(as_leeward_error(error), words)
    except click.Abort as stopped:
        click.echo(tell_stopped(cli, words, asked=stopped.__cause__ is None), err=True)
        sys.exit(130)
    except LeewardError as error:
        end_with(error, words)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        end_with(disk_full(error), words)


def disk_full(error: OSError) -> NotReady:
    return NotReady(
        f"expected room to write {error.filename or 'what was to be written'}, the disk is full",
        hint="make room there, or name another temporary folder in TMPDIR",
        code="no-disk-space",
    )


def as_leeward_error(error: click.ClickException) -> BadInput:
    """click's words about a wrong command, option or value, in the form of all other errors."""
    said = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "leeward"
    return BadInput(
        said[:1].lower() + said[1:],
        hint=f"`{path} --help` tells what can be given",
        code="bad-usage",
    )


def end_with(error: LeewardError, words: list[str]) -> None:
    """Show the error and exit: 2 when the input cannot be used, otherwise 1."""
    show_error(error, as_json="--format=json" in words or ("--format", "json") in pairwise(words))
    sys.exit(2 if error.code in ("plan-unreadable", "bad-input") else 1)


def _told(text: str) -> bool:
    """False when stdout takes no more: its file is on the disk that is full."""
    try:
        click.echo(text)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    return True


def show_error(error: LeewardError, *, as_json: bool) -> None:
    """One error for a person (stderr) or for a machine (one JSON line on stdout)."""
    if as_json and _told(json.dumps({"error": error.to_json()}, default=str)):
        return
    from chalicelib.evidence.text import printable_lines

    lines = [f"ERROR [{error.instance_code}]: {error.message}"]
    lines += [f"HINT: {error.hint}"] if error.hint else []
    for name in OTHERS_WORDS:
        said = str(error.context.get(name, "")).splitlines()[-SHOWN_LINES:]
        lines += [f"  {name}: {line}" for line in said]
    click.echo(printable_lines("\n".join(lines)), err=True)
