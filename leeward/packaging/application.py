"""The application as Chalice packages it, and Chalice's template with what is merged into it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from chalicelib.errors import NotReady
from leeward.packaging.build_cache import ROOT
from leeward.packaging.zips import compile_tree, write_tree

STAGE = "primary"
CODE_BUCKET, CODE_KEY = "leeward-code", "deployment.zip"
SOURCES = ("app.py", "chalicelib", ".chalice/config.json", "policies/iam", "infra")


def read_sources() -> dict[str, bytes]:
    """What Chalice needs to see of the project, by path; read once, so that what is packaged is
    what the cache knows it by."""
    found: list[Path] = []
    for source in SOURCES:
        path = ROOT / source
        found += [path] if path.is_file() else sorted(path.rglob("*"))
    files = [it for it in found if it.is_file() and it.suffix != ".pyc"]
    return {str(it.relative_to(ROOT)): it.read_bytes() for it in files}


def make_application(sources: dict[str, bytes]) -> Callable[[Path], None]:
    """The application with its bytecode, and Chalice's template of it: the same for every plan."""

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="leeward-package-") as temporary:
            project = Path(temporary)
            for name, data in sources.items():
                (project / name).parent.mkdir(parents=True, exist_ok=True)
                (project / name).write_bytes(data)
            (project / "requirements.txt").touch()  # the libraries are added from their cache
            _run_chalice(project, folder)
            _compile_application(folder / "deployment.zip", project / "application")

    return make


def make_template(application: Path, parts: list[dict[str, Any]]) -> Callable[[Path], None]:
    """Chalice's template with `parts`, merged as its own `--merge-template` does it, which would
    package the application anew for each plan.

    Source: chalice.package.TemplateDeepMerger.
    """

    def make(folder: Path) -> None:
        template = json.loads((application / "sam.json").read_text())
        text = json.dumps(merge_parts([template, *parts]), indent=2) + "\n"
        (folder / "sam.json").write_text(text)
        expanded = expand_template(json.loads(text))
        (folder / "expanded.json").write_text(json.dumps(expanded, indent=1) + "\n")

    return make


def merge_parts(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Template parts as one; later ones win, objects are merged key by key."""
    merged: dict[str, Any] = {}
    for part in parts:
        _merge_into(merged, part)
    return merged


def _merge_into(target: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge_into(target[key], value)
        else:
            target[key] = value


def _run_chalice(project: Path, folder: Path) -> None:
    command = [sys.executable, "-c", "from chalice.cli import main; main()"]
    done = subprocess.run(
        [*command, "package", "--stage", STAGE, str(folder)],
        cwd=project,
        env=os.environ | {"AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NotReady(
            "expected chalice to package the application, it did not",
            hint="Read chalice's output, in this error's context.",
            code="not-packaged",
            output=done.stderr.strip()[-2000:],
        )


def _compile_application(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        source.extractall(folder)
    compile_tree(folder)
    write_tree(folder, archive)


def expand_template(template: dict[str, Any]) -> dict[str, Any]:
    """The template after upload and SAM transform, as `aws cloudformation deploy` does it."""
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    # Its warning that nobody published its metrics stood in the terminal of who set up.
    logging.getLogger("samtranslator.metrics").setLevel(logging.ERROR)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = f"s3://{CODE_BUCKET}/{CODE_KEY}"
    translator = Translator({}, Parser())
    expanded: dict[str, Any] = translator.translate(template, {})
    return expanded
