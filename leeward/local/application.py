"""The sample application as a process of the local cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from chalicelib.errors import NotReady
from leeward.local.cloud import LocalCloud
from leeward.local.reaper import end_group

START_SECONDS = 20.0
HEALTH_SECONDS = 5.0


class Application:
    """`ledger`: what it was told is committed (leeward/local/sample_app.py)."""

    def __init__(self, cloud: LocalCloud, secret: str, *, rate: float) -> None:
        self._cloud = cloud
        self._secret = secret
        self._rate = rate
        self._process: subprocess.Popen[str] | None = None
        self.ledger: Path = cloud.folder / "ledger.jsonl"
        self.url = ""

    def start(self) -> None:
        """Returns when its first transaction is committed. Raises NotReady."""
        command = [
            sys.executable, "-m", "leeward.local.sample_app",
            "--secret", self._secret, "--ledger", str(self.ledger), "--rate", str(self._rate),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            env=os.environ | self._cloud.environment(),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._cloud.reaper.watch_group(self._process.pid)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.url = json.loads(line)["address"] if line else ""
        self._wait_healthy()

    def health(self) -> dict[str, Any]:
        """What /health says, waiting a little for it to be healthy; {} when nobody answers."""
        deadline = time.monotonic() + HEALTH_SECONDS
        answer: dict[str, Any] = {}
        while time.monotonic() < deadline and not answer.get("healthy"):
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2) as response:
                    answer = json.load(response)
            except urllib.error.HTTPError as error:
                answer = json.load(error)
            except OSError:
                answer = {}
            time.sleep(0.05)
        return answer

    def stop(self) -> None:
        """End it and wait: its ledger is complete. Safe to repeat."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            end_group(self._process.pid)
            self._process.wait()
        self._cloud.reaper.forget_group(self._process.pid)
        self._process = None

    def _wait_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.url and self.health().get("healthy"):
                return
        raise NotReady(
            f"expected the sample application to write within {START_SECONDS:.0f} s",
            hint="look at its last error, in this error's context",
            code="application-not-started",
            health=self.health() if self.url else {},
        )
