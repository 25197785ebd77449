"""Workflows in Step Functions: one state machine a scenario, executions named by run id."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped


class StepFunctions:
    """`arn_prefix` ends just before the scenario's name: "arn:aws:states:...:leeward-nexus-".

    `connect` gives the client, and is asked when a machine is: every step has this at hand, hardly
    one asks a machine, and a client takes long to make.
    """

    def __init__(self, connect: Callable[[], Any], arn_prefix: str) -> None:
        self._connect = connect
        self._arn_prefix = arn_prefix

    def start(self, scenario: str, run_id: str, payload: dict[str, Any]) -> None:
        with mapped("states", scenario=scenario, run_id=run_id):
            try:
                self._connect().start_execution(
                    stateMachineArn=self._arn_prefix + scenario,
                    name=run_id,
                    input=json.dumps(payload),
                )
            except ClientError as error:
                # The same name: this run was started before, with this or with an older input.
                if error_code(error) != "ExecutionAlreadyExists":
                    raise

    def is_running(self, scenario: str, run_id: str) -> bool:
        return self.status(scenario, run_id) == "RUNNING"

    def status(self, scenario: str, run_id: str) -> str:
        """RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED; "" when there is no such run."""
        machine = self._arn_prefix + scenario
        execution = f"{machine.replace(':stateMachine:', ':execution:')}:{run_id}"
        with mapped("states", scenario=scenario, run_id=run_id):
            try:
                answer = self._connect().describe_execution(executionArn=execution)
            except ClientError as error:
                if error_code(error) == "ExecutionDoesNotExist":
                    return ""
                raise
        return str(answer["status"])
