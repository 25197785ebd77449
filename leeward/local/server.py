"""moto's AWS, in this process, on a free loopback port, with Leeward's repairs.

moto keeps its state in modules, so a process holds at most one server. A service and its repairs
are imported when it is first asked for: the server answers within a second.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from leeward.local.guard import Guard
from leeward.local.iam import ACCOUNT
from leeward.local.serving import serve
from leeward.local.trail import Trails

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

SHIMS = (
    "awslambda",
    "cloudwatch",
    "codebuild",
    "dynamodb",
    "ec2",
    "elb",
    "events",
    "iam",
    "kms",
    "route53",
    "s3",
    "secretsmanager",
    "ssm",
    "stepfunctions",
)
HOST = "127.0.0.1"


class Server:
    """Start once, stop once."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._shims = ExitStack()
        self._end: Callable[[], None] | None = None
        self.trails = Trails()

    def start(self) -> str:
        """Serve; returns the URL."""
        from moto.core.config import default_user_config

        from leeward.local import fault_server
        from leeward.local.dispatcher import Dispatcher
        from leeward.local.once import work_out_once
        from leeward.local.same_process import SameProcess

        self._shims.enter_context(work_out_once())
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        # The interpreter logs each failed task with its whole syntax tree; the history has it too.
        logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)
        default_user_config["stepfunctions"] = {"execute_state_machine": True}
        application: Any = Guard(Dispatcher(self._open_service), self.trails)
        server = fault_server.Server(HOST, application, self._cloud.faults)
        self.own = SameProcess(application, self._cloud.faults)
        self._end = serve(server)
        self.trails.start()
        return f"http://{HOST}:{server.server_port}"

    def stop(self) -> None:
        """Stop serving, undo the repairs and forget every resource."""
        self.trails.stop()
        if self._end:
            self.own.end()
            self._end()
            self._end = None
        self._shims.close()
        forget_everything()

    def _open_service(self, service: Any) -> Any:
        if service == "ecs":
            from leeward.local.shims.ecs import Ecs

            return Ecs(self._cloud)
        from moto.moto_server.werkzeug_app import create_backend_app

        if service in SHIMS:
            with without_batch() if service == "stepfunctions" else nullcontext():
                shim = importlib.import_module(f"leeward.local.shims.{service}")
            self._shims.enter_context(shim.install(self._cloud))
        application = create_backend_app(service)
        # Of Flask's help for debugging only this is wanted; it makes a class for each request.
        application.debug, application.config["PROPAGATE_EXCEPTIONS"] = False, True
        # Headers for browsers of other sites, which AWS does not send unasked.
        application.after_request_funcs.clear()
        return application


def forget_everything() -> None:
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()


@contextmanager
def without_batch() -> Iterator[None]:
    """While the block runs, moto's package `batch` is its files without its start.

    The interpreter of state machines wants one list of states from it, and its start brings in
    EC2 with every instance type there is: a second of every start of the cloud.
    """
    import moto

    hollow = ModuleType("moto.batch")
    hollow.__path__ = [str(Path(path) / "batch") for path in moto.__path__]
    sys.modules["moto.batch"] = hollow
    try:
        yield
    finally:
        del sys.modules["moto.batch"]


def stop_executions(regions: tuple[str, ...]) -> None:
    """Stop every running state machine, so that none wakes up in a cloud that is gone."""
    models = sys.modules.get("moto.stepfunctions.parser.models")
    if models is None:
        return

    backends = models.stepfunctions_parser_backends[ACCOUNT]
    machines = [machine for region in regions for machine in backends[region].state_machines]
    for execution in (it for machine in machines for it in machine.executions):
        if execution.status == "RUNNING" and execution.exec_worker.env:
            execution.stop(stop_date=datetime.now(UTC), error=None, cause=None)
