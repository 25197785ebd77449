"""A deployed plan of people alone, reached by HTTP in the regions that it has."""

from __future__ import annotations

import io
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pyotp
import pytest
import urllib3

from chalicelib.plan.model import Plan
from leeward.cli import main
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.deploy import Deployed, deploy
from leeward.packaging.package import build_package
from leeward.plan_file import load_plan
from tests.clouds import wait_for

ROOT = Path(__file__).parents[1]
PLAN = ROOT / "policies" / "plans" / "nexus-studio.yaml"
PEOPLE = ("cto", "vp-engineering", "security-lead")
SCENARIO, ELSEWHERE = "fire-drill", "flood-drill"
HOSTILE = "Tell <script>alert(1)</script> & <!everyone>"


def people_alone(data: dict[str, Any]) -> dict[str, Any]:
    """The plan with two scenarios of people alone: one here, one that loses the primary region."""
    data["roles"]["incident-commander"]["held_by"] = list(PEOPLE)
    data["communication"].pop("secret", None)
    data["communication"]["internal"], data["communication"]["external"] = {}, {}
    for person in PEOPLE:
        data["contacts"][person].pop("audience", None)
    data["escalation"] = [{"who": "CTO", "contact": "cto", "after": 3600}]
    approve = {"by": ["incident-commander"], "count": 2, "within": 900, "otherwise": "stop"}
    step = {"name": "tell", "says": HOSTILE, "by": "incident-commander", "approve": approve}
    common = {"severity": "SEV1", "steps": [step]}
    [site] = [name for name, it in data["sites"].items() if it["role"] == "primary"]
    data["scenarios"] = {
        SCENARIO: {"title": "Fire drill", "component": "nexus-db", **common},
        ELSEWHERE: {"title": "Flood drill", "loses": [site], **common},
    }
    data["testing"] = data["verification"] = []
    return data


@dataclass
class Api:
    """What is deployed. `urls`: by region."""

    cloud: LocalCloud
    deployed: Deployed
    urls: dict[str, str]
    devices: dict[str, str] = field(default_factory=dict)
    used: dict[tuple[str, str], int] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, *, token: str = "", body: Any = None, key: str = "",
        region: str = PRIMARY_REGION, **headers: str,
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if method == "POST":
            sent = {"Idempotency-Key": key or uuid.uuid4().hex,
                    "Content-Type": "application/json"} | sent  # fmt: skip
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with urllib3.PoolManager(retries=False, timeout=60) as pool:
            url = f"{self.urls[region]}{path}"
            return pool.request(method, url, body=data, headers=sent)

    def get(self, path: str, token: str, **more: Any) -> Any:
        answer = self.ask("GET", path, token=token, **more)
        assert answer.status == 200, answer.data
        return answer.json()

    def leeward(self, *words: str) -> Any:
        """What the command prints as JSON."""
        said = io.StringIO()
        with redirect_stdout(said), pytest.raises(SystemExit):
            main([*words, "--format", "json"])
        return json.loads(said.getvalue())

    def token(self, subject: str, scope: str = "act", region: str = PRIMARY_REGION) -> str:
        more = ("--standby", region) if region != PRIMARY_REGION else ()
        made = self.leeward("token", "issue", "--for", subject, "--scope", scope, *more)
        return str(made["token"])

    def code(self, person: str, region: str = PRIMARY_REGION) -> str:
        """The device's next code: each is good once, in each region."""
        totp, step = pyotp.TOTP(self.devices[person]), int(time.time()) // 30
        used = self.used.get((person, region), 0)
        self.used[person, region] = max(step, used + 1)
        assert self.used[person, region] <= step + 1, "codes come one in 30 s"
        return totp.generate_otp(self.used[person, region])

    def codes(self) -> list[str]:
        """Every code that was used."""
        return [
            pyotp.TOTP(self.devices[person]).generate_otp(step)
            for (person, _), step in self.used.items()
        ]

    def waits(self, run: str, token: str, region: str = PRIMARY_REGION) -> dict[str, Any]:
        def look() -> Any:
            found = self.get("v1/approvals", token, region=region)["approvals"]
            return next((it for it in found if it["run"] == run), None)

        return dict(wait_for(look, "nothing was asked", seconds=60))


@contextmanager
def deployed_api(folder: Path) -> Iterator[Api]:
    """Both regions, and the devices of PEOPLE."""
    plan = Plan.from_json(people_alone(load_plan(PLAN).plan.to_json()))
    package = build_package(plan, folder / "package")
    before = dict(os.environ)
    with LocalCloud(schedules=False) as cloud:
        deployed = deploy(cloud, package, standby=True)
        os.environ |= cloud.environment()
        boto3.DEFAULT_SESSION = None
        assert deployed.standby
        urls = {
            PRIMARY_REGION: deployed.outputs["EndpointURL"],
            STANDBY_REGION: deployed.standby.outputs["EndpointURL"],
        }
        api = Api(cloud, deployed, urls)
        for person in PEOPLE:
            made = api.leeward("people", "enrol", person, "--plan", str(PLAN))
            api.devices[person] = pyotp.parse_uri(made["address"]).secret
        try:
            yield api
        finally:
            os.environ.clear()
            os.environ |= before
            boto3.DEFAULT_SESSION = None
