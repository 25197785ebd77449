"""The deployment package: one zip with code and libraries, one CloudFormation template.

Chalice makes the template from app.py and .chalice/config.json; infra/ and what follows from the
plan are merged into it. The zip holds the application, Chalice's runtime, `plan.json`, the lines of
its YAML and the pinned libraries for the running interpreter's version of Python on Lambda's Linux.
Nothing needs credentials. The result goes to AWS and into the local cloud alike.

What costs time is kept in build/cache by the digest of everything it was made from: the libraries
(about 10 s and the network), the application and Chalice's template of it, for all plans (2 s), the
zip of both, which lacks the plan alone (0.3 s), a plan's template with and without SAM (0.5 s).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.plan.lines import NAME as LINES
from leeward.packaging.application import (
    CODE_BUCKET,
    CODE_KEY,
    expand_template,
    make_application,
    make_template,
    merge_parts,
    read_sources,
)
from leeward.packaging.buckets import replica_globals
from leeward.packaging.build_cache import cached, digest_of
from leeward.packaging.libraries import library_archive
from leeward.packaging.limits import require_deployable
from leeward.packaging.names import names_globals, names_template, primary_outputs
from leeward.packaging.parameters import plan_parameters
from leeward.packaging.standby import handed_over, key_outputs, standby_template
from leeward.packaging.status import primary_status_outputs, status_globals
from leeward.packaging.tasks import task_parameters, task_resources
from leeward.packaging.template import plan_resources
from leeward.packaging.zips import add_file, join_zips

if TYPE_CHECKING:
    from chalicelib.plan.lines import PlanLines
    from chalicelib.plan.model import Plan

UNKNOWN_CODE = "0" * 64
"""Stands in a template for the SHA-256 of the zip, until that is written."""


@dataclass(frozen=True)
class Package:
    """`template` is SAM, as it goes to AWS; `expanded` the same after the SAM transform.

    `standby` is the template of the standby region's stack, SAM too, and `standby_expanded` the
    same without; None when the plan has none in AWS. `names` is the stack of the plan's record
    sets, None when no names move by a health check.
    """

    zip: Path
    template: Path
    expanded: Path
    standby: Path | None = None
    standby_expanded: Path | None = None
    names: Path | None = None


def build_package(plan: Plan, out_dir: Path, lines: PlanLines | None = None) -> Package:
    """Package the application with `plan` into `out_dir`, which is made.

    Args:
        lines: where in its YAML each part of the plan stands; None when it was made without one.
    Raises:
        NotReady: code "no-libraries" when a pinned library has no wheel for Lambda or cannot be
            fetched; code "not-packaged" when Chalice refuses the application.
        PlanError: as `plan_resources` and `require_deployable`.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    sources = read_sources()
    seen = digest_of(*(item for name, data in sources.items() for item in (name, data)))
    application = cached("application", seen, make_application(sources))
    parts = _template_parts(plan, sources)
    made = cached("template", digest_of(seen, json.dumps(parts)), make_template(application, parts))
    shipped = {"plan.json": plan.to_json()} | ({LINES: lines.to_json()} if lines else {})
    archive = out_dir / "deployment.zip"
    _write_zip(archive, _without_plan(application), shipped)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    standby = _write_standby(plan, made, out_dir, digest)
    package = Package(
        archive,
        out_dir / "template.json",
        out_dir / "expanded.json",
        *standby,
        _write_names(plan, out_dir / "names.json"),
    )
    _copy_template(made / "sam.json", package.template, digest)
    _copy_template(made / "expanded.json", package.expanded, digest)
    _require_deployable("primary", package.template, package.expanded)
    _require_deployable("standby", package.standby, package.standby_expanded)
    return package


def _require_deployable(stack: str, template: Path | None, expanded: Path | None) -> None:
    if template is not None and expanded is not None:
        require_deployable(stack, json.loads(expanded.read_text()), template.stat().st_size)


def _template_parts(plan: Plan, sources: dict[str, bytes]) -> list[dict[str, Any]]:
    """What is merged into Chalice's template, in this order: infra/, then what the plan needs."""
    parts = [json.loads(data) for name, data in sources.items() if name.startswith("infra/")]
    made_of_plan = {
        "Parameters": plan_parameters(plan),
        "Globals": merge_parts([replica_globals(plan), names_globals(plan), status_globals(plan)]),
        "Resources": plan_resources(plan),
    }
    parts.append(made_of_plan)
    variables = merge_parts(parts)["Globals"]["Function"]["Environment"]["Variables"]
    given_code = task_parameters(CODE_BUCKET, CODE_KEY, UNKNOWN_CODE)
    parts.append({"Parameters": given_code, "Resources": task_resources(variables)})
    merged = merge_parts(parts)["Resources"]
    given = {name: {"Value": {"Ref": name}} for name in handed_over(plan, merged)}
    outputs = key_outputs(plan) | primary_outputs(plan) | primary_status_outputs(plan)
    return [*parts, {"Outputs": given | outputs}]


def _copy_template(source: Path, target: Path, code_sha256: str) -> None:
    """The template as it is kept knows nothing of the zip, which has the plan in it."""
    target.write_text(source.read_text().replace(UNKNOWN_CODE, code_sha256))


def _write_standby(
    plan: Plan, primary: Path, out_dir: Path, code_sha256: str
) -> tuple[Path | None, Path | None]:
    written = (out_dir / "standby.json", out_dir / "standby-expanded.json")
    for path in written:
        path.unlink(missing_ok=True)
    if plan.aws_region("standby") is None:
        return None, None
    template = standby_template(plan, json.loads((primary / "sam.json").read_text()))
    text = json.dumps(template, indent=1) + "\n"
    made = cached("standby", digest_of(text), _expand_into(text))
    for name, path in zip(("sam.json", "expanded.json"), written, strict=True):
        _copy_template(made / name, path, code_sha256)
    return written


def _write_names(plan: Plan, path: Path) -> Path | None:
    path.unlink(missing_ok=True)
    template = names_template(plan)
    if template is None:
        return None
    path.write_text(json.dumps(template, indent=1) + "\n")
    return path


def _expand_into(text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "sam.json").write_text(text)
        expanded = expand_template(json.loads(text))
        (folder / "expanded.json").write_text(json.dumps(expanded, indent=1) + "\n")

    return make


def _without_plan(application: Path) -> Path:
    """The zip of the libraries and the application."""
    archives = (library_archive(), application / "deployment.zip")
    digest = digest_of(*(it.parent.name for it in archives))
    return cached("zip", digest, lambda it: join_zips(it / "deployment.zip", *archives)) / (
        "deployment.zip"
    )


def _write_zip(target: Path, without_plan: Path, shipped: dict[str, Any]) -> None:
    part = target.with_suffix(".part")
    shutil.copyfile(without_plan, part)
    with zipfile.ZipFile(part, "a") as archive:
        for name, content in shipped.items():
            add_file(archive, name, json.dumps(content, ensure_ascii=False).encode())
    part.replace(target)
