"""The local cloud: AWS on this machine, running the deployed package.

    with LocalCloud() as cloud:
        deploy(cloud, package)                     leeward.local.deploy
        cloud.client("s3").list_buckets()          any AWS client, in either region
        cloud.fire("fetch-wal")                    a schedule, now
        cloud.kill_worker("rebuild")               as AWS loses a sandbox
        cloud.fail(region="us-east-1")             a region that does not answer (faults.py)
        cloud.calls("rebuild")                     the AWS calls it made, cloud.lost its lost events
        cloud.environment()                        what other programs need to reach it
        cloud.dns_address                          where `dig` sees names fail over

Contract: everything listens on loopback, on free ports; state lies in `cloud.folder`; whatever
was started, processes and folder, is gone after `stop`, after Ctrl-C, and within seconds of a
`kill -9` of this process. One cloud per process (moto keeps its state in modules); any number of
processes side by side.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.errors import BadInput, NotReady, Refused
from leeward.garbage import seldom_collected
from leeward.local.clients import CREDENTIALS, Clients
from leeward.local.dns import NameServer
from leeward.local.faults import Fault, Faults, How
from leeward.local.health_checks import HealthChecker
from leeward.local.iam import ACCOUNT, Rights, compare_rights, judge
from leeward.local.logs import store_log
from leeward.local.reaper import Reaper
from leeward.local.runner import Call, Runner, is_named
from leeward.local.sandbox import Function
from leeward.local.schedules import Ticker
from leeward.local.server import HOST, Server, stop_executions
from leeward.packaging.libraries import libraries_here

if TYPE_CHECKING:
    from moto.awslambda.models import LambdaFunction

    from leeward.local.hosts import Hosts
    from leeward.local.routing_control import RoutingCluster
    from leeward.local.tasks import Tasks

PRIMARY_REGION = "us-east-1"
STANDBY_REGION = "us-west-2"
FOLDER_PREFIX = "leeward-cloud-"
STATE_FILE = "cloud.json"


class LocalCloud:
    """See the module.

    Args:
        source: run functions from this working tree with this interpreter's libraries, instead of
            from the deployed zip.
        schedules: fire schedules by the clock; `fire` works either way.
        speed: how many seconds of the schedules' clock pass in a second.
        sandbox_environment: more variables for every sandbox. LEEWARD_POSTGRES names this
            machine's PostgreSQL, which in AWS comes in a layer.
    """

    _running: ClassVar[LocalCloud | None] = None

    def __init__(
        self,
        *,
        source: Path | None = None,
        schedules: bool = True,
        speed: float = 1.0,
        sandbox_environment: dict[str, str] | None = None,
    ) -> None:
        self.source = source
        self.speed = speed
        self.sandbox_environment = dict(sandbox_environment or {})
        self.url = ""
        self.notes: dict[str, Any] = {}
        self.dns_address = ""
        self.clusters: list[RoutingCluster] = []
        self.apis: dict[str, str] = {}
        self.faults = Faults()
        self._schedules = schedules
        self._ending = ExitStack()

    def start(self) -> Self:
        """Raises Refused when this process runs a cloud already."""
        if LocalCloud._running:
            raise Refused(
                "this process runs a local cloud already",
                hint="Stop it first, or start the second one in another process.",
                code="cloud-running",
            )
        with ExitStack() as ending:
            LocalCloud._running = self
            ending.callback(_forget_running)
            self._start_parts(ending)
            self._ending = ending.pop_all()
        return self

    def stop(self) -> None:
        """End everything that was started. Safe to repeat."""
        self._ending.close()

    def _start_parts(self, ending: ExitStack) -> None:
        self.started_at = datetime.now(UTC)
        ending.enter_context(seldom_collected())
        self._postgres = str(find_binaries().bin_dir)
        libraries = None if self.source else libraries_here()
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self.folder.chmod(0o711)  # PostgreSQL runs as another user when this one is root
        self.reaper = Reaper()
        ending.callback(self.reaper.stop)
        self.reaper.start()
        self.reaper.remove_at_end(self.folder)
        server = Server(self)
        ending.callback(server.stop)
        self.url = server.start()
        self._clients = Clients(self.url, server.own)
        self.health_checker = HealthChecker(self)
        ending.callback(self.health_checker.stop)
        self.health_checker.start()
        names = NameServer(self.health_checker.is_healthy)
        ending.callback(names.stop)
        self.dns_address = names.start(HOST)
        self.runner = Runner(
            self.folder,
            self.reaper,
            environment=self.worker_environment,
            on_log=store_log,
            judge=judge,
            stops=self.faults.stops,
            libraries=libraries,
        )
        ending.callback(self.runner.stop)
        ending.callback(stop_executions, self.regions)
        ticker = Ticker(self, speed=self.speed, schedules=self._schedules)
        ending.callback(ticker.stop)
        ticker.start()
        self.write_state()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def client(self, service: str, region: str = PRIMARY_REGION) -> Any:
        """A boto3 client of this cloud, one for each service and region; it never retries."""
        return self._clients.own(service, region)

    def outside(self, service: str, region: str = PRIMARY_REGION) -> Any:
        """A client that no fault meets: for whoever sets the stage and looks at what is left."""
        return self._clients.outside(service, region)

    def fail(
        self,
        *,
        region: str,
        services: tuple[str, ...] = (),
        operations: tuple[str, ...] = (),
        how: How = "refuse",
    ) -> Fault:
        """Let calls fail from now on: see leeward/local/faults.py. Returns what `heal` takes."""
        fault = Fault(region, services, operations, how)
        self.faults.add(fault)
        return fault

    def heal(self, fault: Fault | None = None) -> None:
        """End one fault, or all."""
        if fault is None:
            self.faults.replace_all(())
        else:
            self.faults.remove(fault)

    def environment(self, region: str = PRIMARY_REGION) -> dict[str, str]:
        """Variables with which any AWS program works against this cloud."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "LEEWARD_DNS": self.dns_address,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            **CREDENTIALS,
        }

    def serve_api(self, api: str, stage: str, body: dict[str, Any]) -> str:
        """Serve a REST API until the cloud ends; its address, kept in `apis` too."""
        from leeward.local.api_front import ApiFront, read_definition

        front = ApiFront(read_definition(body), self._invoke_arn, stage=stage, api=api)
        self.apis[api] = front.start()
        self._ending.callback(front.stop)
        return self.apis[api]

    def _invoke_arn(self, arn: str, event: Any) -> tuple[Any, bool]:
        [function] = [it for it in self.functions() if it.arn == arn]
        outcome = self.runner.invoke(function, event)
        return json.loads(outcome.payload), outcome.failed

    def control_is_on(self, arn: str) -> bool:
        """Whether any of `clusters` has the routing control, turned on."""
        return any(cluster.is_on(arn) for cluster in self.clusters)

    def note(self, **values: Any) -> None:
        """Remember what was deployed, for `leeward cloud env` (names, addresses; no secrets)."""
        self.notes |= values
        self.write_state()

    def write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "started_at": self.started_at.isoformat(),
            "environment": self.environment(),
            "notes": self.notes,
        }
        part = self.folder / f"{STATE_FILE}.part"
        part.write_text(json.dumps(state))
        part.replace(self.folder / STATE_FILE)

    def function_of(self, found: LambdaFunction) -> Function:
        """What the runner must know of a function that moto holds."""
        isolated = self.source is None
        code = self.source or self.runner.unpack(found.code_sha_256, found.code_bytes)
        return Function(
            name=found.function_name,
            arn=found.function_arn,
            region=found.region,
            handler=str(found.handler),
            role=found.role,
            timeout_seconds=float(found.timeout),
            memory_mb=int(found.memory_size),
            environment=tuple(sorted(found.environment_vars.items())),
            code=code,
            isolated=isolated,
        )

    def functions(self) -> list[Function]:
        """Every deployed function, in both regions."""
        from moto.awslambda.models import lambda_backends

        backends = [lambda_backends[ACCOUNT][region] for region in self.regions]
        return [self.function_of(found) for it in backends for found in it.list_functions()]

    @property
    def regions(self) -> tuple[str, str]:
        return (PRIMARY_REGION, STANDBY_REGION)

    def warm(self, *names: str) -> None:
        """Start a sandbox for each named function (all when none is named), before it is needed.

        Raises:
            NotReady: code "function-not-started" when one cannot be imported.
        """
        wanted = [it for it in self.functions() if not names or is_named(it.name, names)]
        for name, problem in self.runner.warm(wanted).items():
            raise NotReady(
                f"expected {name} to start, it did not: {problem.payload}",
                hint="Package again; what the function imports must be in requirements.txt.",
                code="function-not-started",
            )

    def schedules(self) -> dict[str, str]:
        """The enabled schedules of both regions: rule name and expression."""
        from leeward.local.schedules import scheduled_rules

        rules = [rule for region in self.regions for rule in scheduled_rules(region)]
        return {rule.name: str(rule.scheduled_expression) for rule in rules}

    def kill_worker(self, name: str, *, wait_seconds: float = 10.0) -> int:
        """Kill the sandbox that runs the function now, waiting for one; returns its pid.

        Its whole process group ends and its disk is lost. The caller of the invocation gets
        Runtime.ExitError. Raises NotReady (code "no-sandbox") when none ran in time.
        """
        return self.runner.kill(name, wait_seconds=wait_seconds)

    def strike(self, strikes: Callable[[Call, Any], bool]) -> None:
        """Kill each sandbox that makes a call of which `strikes` says so, before it takes effect.

        It is asked with the call and the event of the invocation that makes it, and the worker
        waits for the answer: where it dies does not depend on any clock.
        """
        self.runner.strikes = strikes

    def calls(self, name: str | None = None) -> list[Call]:
        """The AWS calls that functions made, oldest first; of one function when named."""
        made = list(self.runner.calls)
        return [it for it in made if name is None or is_named(it.function, (name,))]

    def rights(self) -> dict[str, Rights]:
        """For each function: which rights it lacked, and which it has and never needed so far."""
        return {it.name: compare_rights(it.role, self.calls(it.name)) for it in self.functions()}

    @property
    def lost(self) -> list[tuple[str, Any, str]]:
        """Events that reached nobody: (function, event, why)."""
        return self.runner.lost

    def logs(self, name: str) -> str:
        """Everything that a function logged so far."""
        from leeward.local.logs import read_log

        return "".join(read_log(it) for it in self.functions() if is_named(it.name, (name,)))

    def fire(self, rule_name: str, *, region: str = PRIMARY_REGION) -> None:
        """Send a schedule's event to its targets now; `wait_idle` waits for what follows.

        Raises:
            BadInput: no rule of that name (or ending in it) has a schedule.
        """
        from leeward.local.schedules import scheduled_rules
        from leeward.local.shims.events import deliver, scheduled_event

        rules = [it for it in scheduled_rules(region) if is_named(it.name, (rule_name,))]
        if not rules:
            raise BadInput(f"no schedule is named {rule_name} in {region}")
        for rule in rules:
            deliver(self, rule, scheduled_event(rule, datetime.now(UTC)))

    def wait_idle(self, seconds: float = 60.0) -> bool:
        """True when no asynchronous event is queued or running any more."""
        return self.runner.wait_idle(seconds)

    @cached_property
    def hosts(self) -> Hosts:
        """EC2 instances that really run."""
        from leeward.local.hosts import Hosts

        return Hosts(self)

    @cached_property
    def tasks(self) -> Tasks:
        """Tasks of ECS that really run."""
        from leeward.local.tasks import Tasks

        tasks = Tasks(self)
        self._ending.callback(tasks.end)
        return tasks

    def worker_environment(self, folder: Path) -> dict[str, str]:
        """What whoever runs Leeward's code here must know of this machine; `folder` is its disk."""
        own = {
            "AWS_ENDPOINT_URL": self.url,
            "LEEWARD_DNS": self.dns_address,
            "LEEWARD_WORK_DIR": str(folder / "leeward"),
            "LEEWARD_POSTGRES": self._postgres,
            "LEEWARD_REDIS": _redis_program(),
            "AWS_SESSION_TOKEN": "leeward-local",
        }
        return CREDENTIALS | own | self.sandbox_environment


def _redis_program() -> str:
    """This machine's, which in AWS comes in a layer as PostgreSQL's programs do; "" for none."""
    from chalicelib.adapters.redis.throwaway import find_programs

    return next((str(path) for path in find_programs()), "")


def _forget_running() -> None:
    LocalCloud._running = None
