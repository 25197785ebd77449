"""The pinned libraries as a zip: for Lambda, and for this machine where Lambda's do not run."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from chalicelib.errors import NotReady
from leeward.packaging.build_cache import ROOT, cached, digest_of
from leeward.packaging.zips import compile_tree, write_tree

ARCHITECTURE = "x86_64"


def library_archive() -> Path:
    """A zip of the pinned libraries, without the application."""
    text = "".join(f"{line}\n" for line in _requirements())
    return (
        cached("libraries", digest_of(text, ARCHITECTURE), _make_libraries(text)) / "libraries.zip"
    )


def libraries_here() -> Path | None:
    """A zip of the pinned libraries for this machine; None where Lambda's run.

    Raises NotReady (code "no-libraries") when pip cannot install one of them.
    """
    machine = (sys.platform, platform.machine(), platform.libc_ver()[0])
    return None if machine == ("linux", ARCHITECTURE, "glibc") else make_libraries_here(machine)


def make_libraries_here(machine: tuple[str, ...]) -> Path:
    text = (ROOT / "requirements.txt").read_text()
    return cached("here", digest_of(text, *machine), _install_libraries) / "libraries.zip"


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
