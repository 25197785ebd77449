"""What the catalogue says of one kind of step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Where = Literal["own", "primary", "standby", "global"]


@dataclass(frozen=True)
class Dependency:
    """An AWS service a step needs: which plane of it, where.

    plane "control" changes resources (it fails in regional events, as Route 53's did on
    2021-12-07); plane "data" uses them. region "own" is where the run
    itself runs: the standby region when the scenario loses the primary one.
    """

    service: str
    plane: Literal["data", "control"]
    region: Where


@dataclass(frozen=True)
class StepKind:
    """One kind of step.

    inputs: name -> True when the plan must give it. outputs: names besides `found`.
    timeout_seconds: default limit of one attempt, at most Lambda's 900.
    changes: what it changes outside Leeward's own records; "" when nothing.
    undo: how a person takes it back; "" when there is nothing to undo.
    taken_back: a drill ends by undoing it, with code (UNDO in services/steps/code.py).
    drill: what it acts on in a drill. unreachable: what it does when the primary site does not
    answer; "" when it needs nothing there. waits_until: its output that is a time; the machine
    waits for that before the next step. in_task: it may need more than a Lambda has; then the same
    code does it in a task (docs/decisions/0019).
    """

    uses: str
    function: str
    does: str
    inputs: dict[str, bool]
    outputs: tuple[str, ...]
    timeout_seconds: int
    depends: tuple[Dependency, ...]
    changes: str = ""
    undo: str = ""
    taken_back: bool = False
    drill: str = "nothing: it reads alone"
    unreachable: str = ""
    waits_until: str = ""
    in_task: bool = False


STATE = (Dependency("dynamodb", "data", "own"), Dependency("s3", "data", "own"))
SECRET = Dependency("secretsmanager", "data", "own")
