"""Forks the sandboxes of one package: what all of them import is imported once.

Runs as a script in a fresh interpreter with nothing but the package on its path. What a sandbox
finds in memory is what a snapshot of Lambda's SnapStart would hold: libraries, AWS's service
models, the application's modules that every function imports, the plan's types. It is nothing that
depends on a function, its environment or the clock: `app` itself, clients, settings and every state
are each sandbox's own. A cold start without it is what `Runner.forks = False` gives, and what
docs/benchmarks.md tells. Over the inherited socket LEEWARD_CONTROL_FD, a message each:

    in   {"environment"} with three descriptors: the channel, the gate, where output goes
    out  {"forked": pid}, in the order of the requests; later {"ended": pid, "status"}

Ends with its sandboxes when the socket is closed. Linux alone.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

# What takes longest to import: 0.3 s of the 0.5 s until a function begins to work, measured.
LIBRARIES = (
    "asyncio",
    "logging.handlers",
    "urllib.request",
    "chalice",
    "pydantic",
    "aws_lambda_powertools",
    "boto3.dynamodb.types",
    "boto3.s3.inject",
    "botocore.client",
    "encodings.idna",
    "jinja2",
    "psycopg",
    "pyotp",
)
# Of the application what nearly every function imports, and of botocore the models that it reads
# for its clients: 0.2 s of the 0.35 s that were left, measured. Nothing here may import telemetry,
# whose logger follows from a function's environment.
APPLICATION = (
    "chalicelib.adapters.catalogue",
    "chalicelib.adapters.cloudwatch",
    "chalicelib.adapters.dynamodb_state",
    "chalicelib.adapters.s3.store",
    "chalicelib.adapters.secrets",
    "chalicelib.adapters.step_functions",
    "chalicelib.api.routes",
    "chalicelib.api.verbs",
    "chalicelib.evidence.bundle",
    "chalicelib.evidence.records",
    "chalicelib.evidence.render",
    "chalicelib.incidents.messages_outbox",
    "chalicelib.incidents.messages_text",
    "chalicelib.incidents.paths",
    "chalicelib.incidents.register",
    "chalicelib.plan.load",
    "chalicelib.scenarios.steps",
    "chalicelib.services.jobs.checking",
    "chalicelib.services.jobs.databases",
    "chalicelib.services.locations",
    "chalicelib.services.steps.late",
    "chalicelib.services.steps.code",
    "chalicelib.services.steps.database.aside",
    "chalicelib.services.steps.database.find",
)
SERVICES = ("dynamodb", "kms", "lambda", "s3", "secretsmanager", "sns", "stepfunctions")
MESSAGE_BYTES = 1 << 17


def load_runtime() -> ModuleType:
    path = Path(__file__).with_name("sandbox_main.py")
    spec = importlib.util.spec_from_file_location("sandbox_main", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def import_libraries() -> None:
    """Those that the package has."""
    for name in (*LIBRARIES, *APPLICATION):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def read_models() -> None:
    """AWS's, kept by the loader that every session of a sandbox will have; and the plan's."""
    with contextlib.suppress(ImportError):
        import botocore.session

        botocore.session.create_loader = functools.cache(botocore.session.create_loader)
        session = botocore.session.Session()
        for service in SERVICES:
            session.create_client(
                service, "us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
            )
    plan = Path(os.environ["LAMBDA_TASK_ROOT"], "plan.json")
    if plan.exists() and "chalicelib.plan.load" in sys.modules:
        sys.modules["chalicelib.plan.load"].read_plan_json(plan)


class Mother:
    def __init__(self, control: socket.socket, runtime: ModuleType) -> None:
        self._control = control
        self._runtime = runtime
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)

    def run(self) -> None:
        """Until the runner is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno())
        while True:
            ready, _, _ = select.select([self._control, self._woken], [], [])
            if self._woken in ready:
                self._woken.recv(1024)
                self._report_ended()
            if self._control in ready and not self._take_request():
                return

    def _take_request(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 3)
        if not message:
            return False
        pid = os.fork()
        if pid == 0:
            self._become_sandbox(json.loads(message)["environment"], *fds)
        with contextlib.suppress(PermissionError, ProcessLookupError):  # it did so itself, or ended
            os.setpgid(pid, pid)
        for fd in fds:
            os.close(fd)
        self._tell({"forked": pid})
        return True

    def _become_sandbox(self, environment: dict[str, str], *fds: int) -> None:
        """Never returns: nothing of the mother may run in the child."""
        status = 1
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for own in (self._control, self._woken, self._waker):
                own.close()
            channel, gate, output = fds
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            os.environ.clear()
            os.environ.update(environment)
            time.tzset()
            self._runtime.run(channel, gate)
            status = 0
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else 1
        except BaseException:  # noqa: BLE001  an interpreter tells every error at its end
            traceback.print_exc()
        finally:
            os._exit(status)

    def _report_ended(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                self._tell({"ended": pid, "status": os.waitstatus_to_exitcode(status)})

    def _tell(self, message: dict[str, Any]) -> None:
        self._control.send(json.dumps(message).encode())


def main() -> None:
    control = socket.socket(fileno=int(os.environ.pop("LEEWARD_CONTROL_FD")))
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    gc.disable()  # what is imported stays: looking for cycles in it took a fifth of it
    runtime = load_runtime()
    import_libraries()
    read_models()
    gc.freeze()  # so that a collection in a sandbox does not copy what all share
    gc.enable()
    with contextlib.suppress(ConnectionError):
        Mother(control, runtime).run()


if __name__ == "__main__":
    main()
