"""A drill that lacks something on this machine says so before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalicelib.errors import NotReady
from leeward.commands.drill import load_runnable
from leeward.local import other_clouds
from leeward.local.drill import DrillOptions

PLAN = Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml"


@pytest.mark.parametrize("scenario", ["regional-outage", "failback"])
def test_a_lost_region_needs_another_cloud(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_clouds, "AZURITE", tmp_path / "none")
    monkeypatch.setattr(other_clouds, "_package", lambda name: tmp_path / name)
    plan, stage = load_runnable(PLAN, scenario)
    drill = stage(plan, DrillOptions(scenario, "", stage.damages[0], tmp_path), lambda told: None)
    with pytest.raises(NotReady) as caught:
        drill.run()
    assert caught.value.instance_code == "no-emulator"
    assert "make setup" in caught.value.hint
    assert not hasattr(drill, "cloud"), "the local cloud was started for nothing"
