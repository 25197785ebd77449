"""Reach what is deployed, or what is left of it, from the operator's own machine.

With a deployment, the names of its parts are read from a function's configuration and the work is
the functions' own (chalicelib/services), with the operator's rights. Without one (`--without-aws`:
AWS is lost, or nothing was deployed) logins come from files and the offline key opens copies.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalicelib.errors import BadInput, NotReady
from chalicelib.evidence.text import printable_lines

if TYPE_CHECKING:
    from chalicelib.plan.components import BaseComponent
    from chalicelib.plan.model import Plan
    from chalicelib.services.locations import Locations

FUNCTION = "leeward-primary-copy"
"""Any would do: all functions have the same environment."""
HAVE_POINTS = ("postgres", "files", "redis", "git")


@dataclass(frozen=True)
class Access:
    """How the operator reaches the locations. `logins`: location -> file with what its secret
    holds."""

    logins: Mapping[str, Path]
    private_key: Path | None
    passphrase_file: Path | None
    without_aws: bool


DEPLOYED = Access({}, None, None, without_aws=False)
"""With the AWS rights of who runs the command: no logins of other clouds, no private key."""


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--login, --private-key, --passphrase-file and --without-aws, given as `access`."""

    @wraps(command)
    def with_access(
        login: tuple[str, ...],
        private_key: Path | None,
        passphrase_file: Path | None,
        without_aws: bool,
        **rest: Any,
    ) -> Any:
        access = Access(parse_logins(login), private_key, passphrase_file, without_aws)
        return command(access=access, **rest)

    path = click.Path(path_type=Path)
    given = with_access
    for option in (
        click.option(
            "--login",
            multiple=True,
            metavar="LOCATION=FILE",
            help="The login to a location, JSON as in its secret; may be given again.",
        ),
        click.option(
            "--private-key",
            type=path,
            help="Offline key (PEM) that opens copies when no KMS key does.",
        ),
        click.option("--passphrase-file", type=path, help="Its passphrase: the first line."),
        click.option(
            "--without-aws",
            is_flag=True,
            help="Ask no deployment: logins from files, copies opened by the offline key.",
        ),
    ):
        given = option(given)
    return given


@contextmanager
def reach(plan: Plan, access: Access, *, unwritten: bool = False) -> Iterator[Locations]:
    """The plan's locations, opened as the options say.

    Args:
        unwritten: what is written to them is kept nowhere.
    Raises:
        BadInput: a login or key file that cannot be used.
        NotReady: code "not-deployed", when the functions are not where the environment points.
    """
    if access.without_aws:
        yield _locations(plan, access, unwritten=unwritten)
        return
    with tempfile.TemporaryDirectory(prefix="leeward-plan-") as folder:
        file = Path(folder) / "plan.json"
        file.write_text(json.dumps(plan.to_json()))
        os.environ |= _names_of_parts() | {"LEEWARD_PLAN": str(file)}
        yield _locations(plan, access, unwritten=unwritten)


def copies_of(
    places: Locations, components: Sequence[str], locations: Sequence[str], *, primary: bool
) -> list[tuple[str, str]]:
    """Component and location of every copy of the plan, of those that are named.

    `primary`: whether the location that backups are taken to is one of them.

    Raises BadInput: code "unknown-component" or "unknown-location"; code "no-copies", when there is
    none, so that nothing would be done.
    """
    for name in components:
        places.component(name)
    for name in locations:
        places.location(name)
    kept = [
        name
        for name, it in places.plan.components.items()
        if _has_points(it) and any(backup.to for backup in it.backups)
    ]
    found = [
        (component, location)
        for component in components or kept
        for location in places.of(component)[0 if primary else 1 :]
        if not locations or location in locations
    ]
    if not found:
        where = f"in {' or '.join(locations)}" if locations else "in any location"
        raise BadInput(
            f"expected a copy of {', '.join(components) or 'anything'} {where} in the plan"
            f"{'' if primary else ', besides where backups are taken to'}, found none",
            hint="say under `backups` where its copies go `to`",
            code="no-copies",
        )
    return found


def _has_points(component: BaseComponent) -> bool:
    """The points of a bucket that is kept in step are the inventories of its replica."""
    in_step = any(backup.kind in ("replication", "sync") for backup in component.backups)
    return component.kind in HAVE_POINTS or (component.kind == "bucket" and in_step)


def _locations(plan: Plan, access: Access, *, unwritten: bool) -> Locations:
    from chalicelib.services.locations import Locations, read_login

    def login(name: str) -> Mapping[str, Any]:
        if name in access.logins:
            return _read_json(access.logins[name])
        if access.without_aws:
            raise NotReady(
                f"expected a login to {name}, found none",
                hint=f"give it with --login {name}=FILE",
                code="no-credentials",
            )
        return read_login(plan.locations[name])

    return Locations(
        plan,
        login,
        _private_keys(access),
        deployed=not access.without_aws,
        unwritten=unwritten,
        tell=lambda text: click.echo(printable_lines(text), err=True),
    )


def _private_keys(access: Access) -> tuple[Any, ...]:
    from leeward.commands.keys import private_openers

    return tuple(private_openers(access.private_key, access.passphrase_file))


def _names_of_parts() -> dict[str, str]:
    """LEEWARD_* as the functions have them."""
    import boto3

    from chalicelib.adapters.aws_errors import mapped

    with mapped("lambda", function=FUNCTION):
        found = boto3.client("lambda").get_function_configuration(FunctionName=FUNCTION)
    variables: dict[str, str] = found.get("Environment", {}).get("Variables", {})
    names = {name: value for name, value in variables.items() if name.startswith("LEEWARD_")}
    if not names:
        raise NotReady(
            f"expected {FUNCTION} to name the parts of the deployment, it does not",
            hint="deploy with the packaged template, which does",
            code="not-deployed",
        )
    return names


def parse_logins(given: Sequence[str]) -> dict[str, Path]:
    """ "LOCATION=FILE" of each. Raises BadInput (code "bad-login")."""
    return dict(map(_login, given))


def _login(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise BadInput(
            f"expected LOCATION=FILE, found {text!r}",
            hint="write --login secondary=login.json",
            code="bad-login",
        )
    return name, Path(file)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        why = (error.strerror or "it cannot be read").lower()
        raise _bad_login(path, why) from error
    except ValueError as error:
        raise _bad_login(path, "it holds no JSON") from error
    if not isinstance(found, dict):
        raise _bad_login(path, "it holds no JSON object")
    return found


def _bad_login(path: Path, why: str) -> BadInput:
    return BadInput(
        f"expected a login in {path}: {why}",
        hint="save what the location's secret holds, one JSON object",
        code="bad-login",
    )
