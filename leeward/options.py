"""What several sub-commands have in common on the command line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from chalicelib.errors import BadInput

PLAN_PATH = click.Path(path_type=Path, readable=False)
"""Unchecked here: load_plan says why a plan cannot be read."""

FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one document on stdout and nothing else, also for an error.",
)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Make the folder for what the block writes into it.

    Raises:
        BadInput: code "not-writable", naming what could not be written and why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise BadInput(
            f"expected to write to {error.filename or folder}, could not: {why}",
            hint="name a folder that is yours, or can be made, and has room",
            code="not-writable",
        ) from error


def require_writable(folder: Path) -> None:
    """Write a file there and remove it, before anything long begins.

    Raises:
        BadInput: as `writing_to`.
    """
    with writing_to(folder), tempfile.TemporaryFile(dir=folder):
        pass
