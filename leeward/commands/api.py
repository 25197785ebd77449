"""leeward api: the JSON API, described."""

from __future__ import annotations

import json
from pathlib import Path

import click

from leeward.options import FORMAT, writing_to


@click.group("api", short_help="The API's OpenAPI document.")
def command() -> None:
    """The JSON API (docs/api.md)."""


@command.command("describe")
@click.option("--out", type=click.Path(path_type=Path), help="Write it to this file.")
@FORMAT
def describe(out: Path | None, form: str) -> None:
    """Print the OpenAPI 3.1 document, which is made from the code that serves the API.

    Exit status: 0; 2 the file cannot be written.
    """
    from chalicelib.api.openapi import describe

    text = json.dumps(describe(), indent=1) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    with writing_to(out.parent):
        out.write_text(text)
    click.echo(json.dumps({"written": str(out)}) if form == "json" else f"wrote {out}")
