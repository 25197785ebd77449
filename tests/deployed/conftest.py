"""The package that the tests of this folder look at, made once for each of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from leeward.packaging.package import Package, build_package
from leeward.plan_file import load_plan

ROOT = Path(__file__).parents[2]
PLANS = ROOT / "policies" / "plans"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    file = load_plan(PLANS / "nexus-studio.yaml")
    return build_package(file.plan, tmp_path_factory.mktemp("package"), file.lines)


@pytest.fixture(scope="session")
def unpacked(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(package.zip) as archive:
        archive.extractall(folder)
    return folder
