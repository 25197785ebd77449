"""The deployment package: one zip with code and libraries, one CloudFormation template.

Chalice makes the template from app.py and .chalice/config.json; infra/ and what follows from the
plan are merged into it. The zip holds the application, Chalice's runtime, `plan.json`, the lines of
its YAML and the pinned libraries for the running interpreter's version of Python on Lambda's Linux.
Nothing needs credentials. The result goes to AWS and into the local cloud alike.

What costs time is kept in build/cache by the digest of everything it was made from: the libraries
(about 10 s and the network), Chalice's template (1 s), the template without SAM (0.5 s).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.errors import NotReady

if TYPE_CHECKING:
    from chalicelib.plan.lines import PlanLines
    from chalicelib.plan.model import Plan

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "cache"
STAGE = "primary"
ARCHITECTURE = "x86_64"
CODE_BUCKET, CODE_KEY = "leeward-code", "deployment.zip"
UNKNOWN_CODE = "0" * 64
"""Stands in a template for the SHA-256 of the zip, until that is written."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip: the same content must be the same bytes."""
SOURCES = ("app.py", "chalicelib", ".chalice/config.json", "policies/iam", "infra")


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
    """
    from chalicelib.plan.lines import NAME as LINES
    from leeward.standby import handed_over, key_outputs
    from leeward.template import plan_resources
    from leeward.template_buckets import replica_globals
    from leeward.template_names import names_globals, primary_outputs
    from leeward.template_status import primary_status_outputs, status_globals
    from leeward.template_tasks import task_parameters, task_resources

    out_dir.mkdir(parents=True, exist_ok=True)
    sources = read_sources()
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
    parts.append({"Outputs": given | outputs})
    seen = [item for name, data in sources.items() for item in (name, data)]
    made = cached("template", _digest(*seen, json.dumps(parts)), _make_template(sources, parts))
    shipped = {"plan.json": plan.to_json()} | ({LINES: lines.to_json()} if lines else {})
    archive = out_dir / "deployment.zip"
    _write_zip(archive, made / "deployment.zip", shipped)
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
    return package


def _copy_template(source: Path, target: Path, code_sha256: str) -> None:
    """The template as it is kept knows nothing of the zip, which has the plan in it."""
    target.write_text(source.read_text().replace(UNKNOWN_CODE, code_sha256))


def _write_standby(
    plan: Plan, primary: Path, out_dir: Path, code_sha256: str
) -> tuple[Path | None, Path | None]:
    from leeward.standby import standby_template

    written = (out_dir / "standby.json", out_dir / "standby-expanded.json")
    for path in written:
        path.unlink(missing_ok=True)
    if plan.aws_region("standby") is None:
        return None, None
    template = standby_template(plan, json.loads((primary / "sam.json").read_text()))
    text = json.dumps(template, indent=1) + "\n"
    made = cached("standby", _digest(text), _expand_into(text))
    for name, path in zip(("sam.json", "expanded.json"), written, strict=True):
        _copy_template(made / name, path, code_sha256)
    return written


def _write_names(plan: Plan, path: Path) -> Path | None:
    from leeward.template_names import names_template

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


def plan_parameters(plan: Plan) -> dict[str, Any]:
    """What the policies and the environment need to know of the plan.

    Six question marks: Secrets Manager ends each ARN with a dash and six characters.
    """
    from leeward.template import machine_name, step_parameters
    from leeward.template_buckets import bucket_parameters
    from leeward.template_infrastructure import infrastructure_parameters
    from leeward.template_isolation import isolation_parameters
    from leeward.template_names import names_parameters
    from leeward.template_people import message_secrets
    from leeward.template_servers import server_parameters
    from leeward.template_workloads import workload_parameters

    databases = [it for it in plan.components.values() if it.kind == "postgres"]
    operator = [it.operator_secret for it in databases]
    application = [it.application_secret for it in databases]
    caches = [it.secret for it in plan.components.values() if it.kind == "redis" and it.secret]
    others = [it.bucket for it in plan.locations.values() if it.provider == "aws" and it.bucket]
    logins = [it.secret for it in plan.locations.values() if it.secret]
    given: dict[str, Any] = {
        "ScenarioPrefix": {"Type": "String", "Default": machine_name(plan, "")},
        # Without a standby region the name stands for no key: the list of keys ends with it.
        "StandbyRegion": {"Type": "String", "Default": plan.aws_region("standby") or "none"},
        "OperatorSecrets": _secret_list(operator),
        "ComponentSecrets": _secret_list(caches or ["leeward-no-component"]),
        # IAM takes no empty list: without a login there is a name that no secret has.
        "LocationBuckets": _bucket_list(others, ""),
        "LocationObjects": _bucket_list(others, "/*"),
        "LocationSecrets": _secret_list(logins or ["leeward-no-location"]),
        "ApplicationSecrets": _secret_list(application),
        "MessageSecrets": _secret_list(message_secrets(plan) or ["leeward-no-channel"]),
        "ServerRoles": _role_list(plan),
    }
    given |= bucket_parameters(plan) | names_parameters(plan)
    given |= infrastructure_parameters(plan)
    given |= workload_parameters(plan)
    given |= isolation_parameters(plan) | server_parameters(plan) | step_parameters(plan)
    return given


def _role_list(plan: Plan) -> dict[str, str]:
    """Roles that a launched server gets; without one there is a name that no role has."""
    roles = {it.role for it in plan.components.values() if it.kind == "server" and it.role}
    arns = [f"arn:aws:iam::*:role/{name}" for name in sorted(roles or {"leeward-no-server"})]
    return {"Type": "CommaDelimitedList", "Default": ",".join(arns)}


def _bucket_list(buckets: Iterable[str], ending: str) -> dict[str, str]:
    names = sorted(set(buckets)) or ["leeward-no-location"]
    arns = [f"arn:aws:s3:::{name}{ending}" for name in names]
    return {"Type": "CommaDelimitedList", "Default": ",".join(arns)}


def _secret_list(names: Iterable[str]) -> dict[str, str]:
    arns = [f"arn:aws:secretsmanager:*:*:secret:{name}-??????" for name in sorted(set(names))]
    return {"Type": "CommaDelimitedList", "Default": ",".join(arns)}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached(kind: str, digest: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills for `digest`, made once; a folder that exists is complete."""
    folder = CACHE / f"{kind}-{digest[:24]}"
    with locked(CACHE / f"{kind}.lock"):
        if not folder.exists():
            part = CACHE / f"{kind}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(folder)
    return folder


def _digest(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    tools = (version("chalice"), version("aws-sam-translator"), sys.version)
    for part in (*parts, *tools, Path(__file__).read_bytes()):
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8) + data)
    return digest.hexdigest()


def read_sources() -> dict[str, bytes]:
    """What Chalice needs to see of the project, by path; read once, so that what is packaged is
    what the cache knows it by."""
    found: list[Path] = []
    for source in SOURCES:
        path = ROOT / source
        found += [path] if path.is_file() else sorted(path.rglob("*"))
    files = [it for it in found if it.is_file() and it.suffix != ".pyc"]
    return {str(it.relative_to(ROOT)): it.read_bytes() for it in files}


def _make_template(
    sources: dict[str, bytes], parts: list[dict[str, Any]]
) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="leeward-package-") as temporary:
            project = Path(temporary)
            for name, data in sources.items():
                (project / name).parent.mkdir(parents=True, exist_ok=True)
                (project / name).write_bytes(data)
            (project / "requirements.txt").touch()  # the libraries are added from their cache
            merged = project / "merge.json"
            merged.write_text(json.dumps(merge_parts(parts)))
            _run_chalice(project, merged, folder)
            _compile_application(folder / "deployment.zip", project / "application")
        expanded = expand_template(json.loads((folder / "sam.json").read_text()))
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


def _run_chalice(project: Path, merged: Path, folder: Path) -> None:
    command = [sys.executable, "-c", "from chalice.cli import main; main()"]
    done = subprocess.run(
        [*command, "package", "--stage", STAGE, "--merge-template", str(merged), str(folder)],
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


def library_archive() -> Path:
    """A zip of the pinned libraries, without the application."""
    text = "".join(f"{line}\n" for line in _requirements())
    return cached("libraries", _digest(text, ARCHITECTURE), _make_libraries(text)) / "libraries.zip"


def libraries_here() -> Path | None:
    """A zip of the pinned libraries for this machine; None where Lambda's run.

    Raises NotReady (code "no-libraries") when pip cannot install one of them.
    """
    machine = (sys.platform, platform.machine(), platform.libc_ver()[0])
    return None if machine == ("linux", ARCHITECTURE, "glibc") else make_libraries_here(machine)


def make_libraries_here(machine: tuple[str, ...]) -> Path:
    text = (ROOT / "requirements.txt").read_text()
    return cached("here", _digest(text, *machine), _install_libraries) / "libraries.zip"


def _install_libraries(folder: Path) -> None:
    site = folder / "site-packages"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    listed = ["--requirement", str(ROOT / "requirements.txt")]
    done = subprocess.run(
        [*command, "--no-compile", "--target", str(site), *listed], capture_output=True, text=True
    )
    if done.returncode:
        raise NotReady(
            "expected pip to install the functions' libraries for this machine, it did not",
            hint="The first time this needs the package index; look at pip's words.",
            code="no-libraries",
            output=done.stderr.strip()[-2000:],
        )
    compile_tree(site)
    write_tree(site, folder / "libraries.zip")
    shutil.rmtree(site)


def _requirements() -> list[str]:
    """The pinned libraries; Chalice adds its own runtime and is a command otherwise.

    Without the markers, which tell what this machine needs: the package is for Lambda's.
    """
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line.partition(";")[0].strip() for line in lines]
    return [pin for pin in pins if pin and not pin.startswith(("chalice==", "#"))]


def _make_libraries(requirements: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from chalice.deploy.packager import (
            DependencyBuilder,
            MissingDependencyError,
            NoSuchPackageError,
            PackageDownloadError,
        )
        from chalice.utils import OSUtils

        listed = folder / "requirements.txt"
        listed.write_text(requirements)
        abi = f"cp{sys.version_info[0]}{sys.version_info[1]}"
        site = folder / "site-packages"
        try:
            DependencyBuilder(OSUtils(), architecture=ARCHITECTURE).build_site_packages(
                abi, str(listed), str(site)
            )
        except MissingDependencyError as error:
            names = ", ".join(sorted(it.identifier for it in error.missing))
            raise NotReady(
                f"expected a wheel for Lambda's {abi} of every library, found none of {names}",
                hint="Package with the version of Python that the functions run.",
                code="no-libraries",
            ) from error
        except (NoSuchPackageError, PackageDownloadError) as error:
            raise NotReady(
                f"expected to fetch every library for Lambda's {abi}, could not",
                hint="Packaging for the first time needs the package index; look at pip's words.",
                code="no-libraries",
                output=str(error)[-2000:],
            ) from error
        compile_tree(site)
        write_tree(site, folder / "libraries.zip")
        shutil.rmtree(site)

    return make


def compile_tree(folder: Path) -> None:
    """Put bytecode beside every module: Lambda's folder of code is read-only, so that without it
    each cold start would compile all that it imports.

    Valid without looking at the source (unchecked hash), and the same for the same source: it names
    where that lies in Lambda, not where it was compiled.
    """
    command = [sys.executable, "-S", "-m", "compileall", "-q", "-j", "0"]
    command += ["-s", str(folder), "-p", "/var/task"]
    subprocess.run(
        [*command, "--invalidation-mode", "unchecked-hash", str(folder)],
        cwd="/",
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        check=True,
    )


def write_tree(folder: Path, archive: Path) -> None:
    """A zip of a folder: the same content gives the same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for path in sorted(it for it in folder.rglob("*") if it.is_file()):
            add_file(target, str(path.relative_to(folder)), path.read_bytes())


def add_file(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    archive.writestr(entry, data)


def _write_zip(target: Path, application: Path, shipped: dict[str, Any]) -> None:
    part = target.with_suffix(".part")
    shutil.copyfile(library_archive(), part)
    with zipfile.ZipFile(application) as source, zipfile.ZipFile(part, "a") as archive:
        for name in sorted(source.namelist()):
            add_file(archive, name, source.read(name))
        for name, content in shipped.items():
            add_file(archive, name, json.dumps(content, ensure_ascii=False).encode())
    part.replace(target)
