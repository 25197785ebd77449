"""The steps that use a server's own means: run the plan's commands there, ask it for a page."""

from __future__ import annotations

from shlex import quote
from typing import Any

from chalicelib.adapters.http.page import fetch_page
from chalicelib.errors import BadInput, CheckFailed, LeewardError
from chalicelib.evidence.entries import proven, serving
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Postgres
from chalicelib.plan.records import CheckResult, Proof, format_time
from chalicelib.recover.sites.servers import wait_for
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say
from chalicelib.services.steps.servers.launch import commands_of, facts_of, server_of
from chalicelib.services.steps.sources import END

Outputs = dict[str, Any]

# Of the steps' 900 s and 300 s.
COMMAND_SECONDS = 840.0
TEST_SECONDS = 240.0
PAGE_SECONDS = 5.0
# Answers in a row: one may be the last of a process that is ending.
GOOD_ANSWERS = 3
TAIL_CHARACTERS = 2000


def run_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Run what the plan's step has as `commands`, as root, in `folder`; its first failure ends it.

    Raises CheckFailed (code "command-failed") with the end of the output.
    """
    name = acting_on(run, inputs["component"])
    facts = facts_of(run, name, str(inputs.get("instance") or ""))
    script = _commands_in(run, str(inputs.get("folder") or "/root"))
    ran = commands_of(server_of(name)).run(
        facts.id, script, name=f"{run.run_id}/{run.step}", limit_seconds=COMMAND_SECONDS
    )
    tail = (ran.output + ran.errors)[-TAIL_CHARACTERS:]
    if ran.status:
        raise CheckFailed(
            f"expected the commands of {run.step} to succeed on {facts.id}, one ended with status "
            f"{ran.status}: {tail[-300:].strip()}",
            code="command-failed",
            hint="its whole output is on the server, in /var/lib/leeward/commands",
            output=tail,
        )
    return {
        "found": f"the commands succeeded on {facts.id} in {ran.seconds:.1f} s",
        "instance": facts.id,
        "status": ran.status,
        "tail": tail,
    }


def _commands_in(run: Run, folder: str) -> str:
    steps = build.plan().scenarios[run.scenario].all_steps()
    step = next((it for it in steps if it.name == run.step), None)
    if step is None or not step.commands:
        raise BadInput(
            f"expected commands in the plan's step {run.step}, found none",
            hint="add `commands` to the step",
            code="no-commands",
        )
    return f"cd {quote(folder)}\n{_databases_here(run)}{step.commands}"


def _databases_here(run: Run) -> str:
    """LEEWARD_SECRET_ARTIST_DB and the like: the application's secret of each database on which
    the run acts, so that a server at another site, or a drill's, is never told of production's;
    and on the way back, where settings come from the other site, of what is brought home."""
    lines, elsewhere = "", {run.site} | ({"drill"} if run.drill else set())
    scenario = build.plan().scenarios[run.scenario]
    home = scenario.restores if scenario.returns_to else ()
    for name, found in build.plan().components.items():
        if isinstance(found, Postgres) and (name in home or elsewhere & set(found.stand_ins)):
            secret = build.database(acting_on(run, name)).application_secret
            lines += f"export LEEWARD_SECRET_{name.upper().replace('-', '_')}={quote(secret)}\n"
    return lines


def test_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Ask the server itself until it answered rightly a few times in a row.

    `url` holds `{address}` for the server's. `expect`: text that the page must have.
    Raises CheckFailed (code "page-wrong") with what it said last.
    """
    name = acting_on(run, inputs["component"])
    facts = facts_of(run, name, str(inputs.get("instance") or ""))
    url = str(inputs["url"]).replace("{address}", facts.address)
    expected, good, last = str(inputs.get("expect") or ""), 0, "nothing"

    def look() -> int | None:
        nonlocal good, last
        try:
            status, body = fetch_page(url, seconds=PAGE_SECONDS)
        except LeewardError as error:
            good, last = 0, error.message
            return None
        fits = status == 200 and expected in body
        good, last = (good + 1 if fits else 0), f"{status}: {body[:300]}"
        return good if good >= GOOD_ANSWERS else None

    if wait_for(look, clock=build.clock(), limit_seconds=TEST_SECONDS) is None:
        wanted = f"200 and {expected!r}" if expected else "200"
        raise CheckFailed(
            f"expected {url} to answer {wanted} {GOOD_ANSWERS} times in a row, found {last}",
            code="page-wrong",
            hint="look at the units' logs on the server; nothing was sent to it yet",
        )
    now, at = build.clock().now(), format_time(build.clock().now())
    found = f"{url} answers as expected" + (f", with {expected}" if expected else "")
    say(run, serving(at=now, how=found))
    check = CheckResult("page", True, f"{GOOD_ANSWERS} answers in a row: {last}")
    proof = Proof(
        component=name,
        point_id="",
        proven_at=now,
        target=END,
        recovered_lsn=0,
        last_commit_at=None,
        checks=(check,),
    )
    say(run, proven(proof))
    return {
        "found": found,
        "instance": facts.id,
        "url": url,
        "answered_at": at,
    }
