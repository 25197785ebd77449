"""Step Functions: tasks and maps reach this cloud, and two starts of one name start one execution.

A definition is parsed once, where moto parses it for its creation and for each execution; and with
the cheaper of ANTLR's strategies, which finds the same tree or an error, on which moto's follows.
One that was found valid is valid in the next cloud of the process too. What the creation made of it
is what the first execution runs: 20 ms of the time from an alarm to the first step.

moto calls the services of a task at a port taken from the environment, with a new client each
time (24 ms a task instead of 12), and looks for a running execution of the same name without a
lock, so that two alarms at the same moment would start two runs. When an execution began, it tells
its states as a datetime, which no state can hand on; Step Functions as text. It waits for a moment
in UTC as if it were the machine's own time, and up to a second too short. A state that is tried
again waits with the token that it had before, as if answered already; where it waits for signs of
life, an answer that comes while its Lambda still runs is not seen, and a sign of life is refused.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from antlr4 import CommonTokenStream, InputStream, ParserRuleContext, PredictionMode
from moto.stepfunctions.parser.asl.antlr.runtime.ASLLexer import ASLLexer
from moto.stepfunctions.parser.asl.antlr.runtime.ASLParser import ASLParser
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.item_reader.eval import (
    resource_eval_s3,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_callback,
)
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.timestamp import Timestamp
from moto.stepfunctions.parser.asl.eval.callback.callback import (
    CallbackEndpoint,
    HeartbeatTimedOut,
)
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor
from moto.stepfunctions.parser.backend import execution_worker
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

_valid: set[str] = set()
# By definition: a program that no execution has run yet.
_unused: dict[str, Any] = {}
_thread = threading.local()


@contextmanager
def install(cloud: LocalCloud) -> Iterator[None]:
    lock = threading.Lock()

    def boto_client_for(region: str, service: str, state_credentials: Any = None) -> Any:
        return cloud.client(service, region)

    def one_at_a_time(original: Any) -> Any:
        def start_execution(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return original(*args, **kwargs)

        return start_execution

    def with_text(original: Any) -> Any:
        def execution_data(*, StartTime: datetime, **rest: Any) -> Any:
            text = StartTime.isoformat(timespec="milliseconds").replace("+00:00", "")
            return original(StartTime=f"{text}Z", **rest)

        return execution_data

    def until_then(original: Any) -> Any:
        def get_wait_seconds(self: Any, env: Any) -> int:
            self.string.eval(env=env)
            text = env.stack.pop()
            if self._from_timestamp_string(timestamp=text) is None:
                raise FailureEventException(self._create_failure_event(env, text))
            left = datetime.fromisoformat(text) - datetime.now(UTC)
            return max(0, math.ceil(left.total_seconds()))

        return get_wait_seconds

    callback = state_task_service_callback.StateTaskServiceCallback
    with ExitStack() as stack:
        stack.enter_context(replaced(callback, "_eval_execution", _own_token))
        stack.enter_context(replaced(callback, "_wait_for_task_token_heartbeat", _signs_of_life))
        stack.enter_context(replaced(CallbackEndpoint, "notify_heartbeat", _sign_before_waiting))
        stack.enter_context(replaced(Timestamp, "_get_wait_seconds", until_then))
        for caller in (lambda_eval_utils, resource_eval_s3):
            stack.enter_context(replaced(caller, "boto_client_for", lambda _: boto_client_for))
        stack.enter_context(replaced(AmazonStateLanguageParser, "parse", _parsed_once))
        stack.enter_context(
            replaced(StepFunctionsParserBackend, "_validate_definition", _validated_once)
        )
        stack.callback(_unused.clear)
        stack.enter_context(
            replaced(execution_worker.ExecutionWorker, "_get_evaluation_entrypoint", _unused_first)
        )
        stack.enter_context(replaced(execution_worker, "ExecutionData", with_text))
        stack.enter_context(replaced(StepFunctionsParserBackend, "start_execution", one_at_a_time))
        yield


def _own_token(original: Any) -> Any:
    """Each attempt of a state that waits has a token of its own, which leads nowhere afterwards."""

    def eval_execution(self: Any, env: Any) -> None:
        if not self._is_integration_pattern():
            original(self, env)
            return
        token = env.states.context_object.update_task_token()
        env.callback_pool_manager.add(token)
        try:
            original(self, env)
        finally:
            env.callback_pool_manager._pool.pop(token, None)

    return eval_execution


def _signs_of_life(_original: Any) -> Any:
    def wait(self: Any, env: Any, callback_endpoint: Any, heartbeat_endpoint: Any) -> Any:
        outcome = callback_endpoint.get_outcome()
        while env.is_running() and outcome is None:
            received = heartbeat_endpoint.clear_and_wait()
            outcome = callback_endpoint.get_outcome()
            if outcome is None and not received and env.is_running():
                return HeartbeatTimedOut()
        return outcome

    return wait


def _sign_before_waiting(original: Any) -> Any:
    def notify_heartbeat(self: Any) -> bool:
        return self._heartbeat_endpoint is None or original(self)

    return notify_heartbeat


def _parsed_once(original: Any) -> Any:
    def parse(definition: str) -> tuple[Any, ParserRuleContext]:
        tree = _tree_of(definition)
        # A program of its own for each execution: it may remember something, a tree does not.
        made = original(definition) if tree is None else (Preprocessor().visit(tree), tree)
        _thread.program = made[0]
        return made

    return parse


def _validated_once(original: Any) -> Any:
    def validate(definition: str) -> None:
        if definition not in _valid:
            original(definition)
            _valid.add(definition)
            _unused[definition] = _thread.program

    return staticmethod(validate)


def _unused_first(original: Any) -> Any:
    def program_of(self: Any) -> Any:
        definition = self._evaluation_details.state_machine_details.definition
        return _unused.pop(definition, None) or original(self)

    return program_of


@lru_cache(maxsize=64)
def _tree_of(definition: str) -> ParserRuleContext | None:
    """None when there is an error, or with this strategy seems to be one."""
    lexer = ASLLexer(InputStream(definition))
    parser = ASLParser(CommonTokenStream(lexer))
    for part in (lexer, parser):
        part.removeErrorListeners()
    parser._interp.predictionMode = PredictionMode.SLL
    tree = parser.state_machine()
    return None if parser.getNumberOfSyntaxErrors() else tree
