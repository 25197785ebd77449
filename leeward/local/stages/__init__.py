"""The stages: what is put up, damaged and counted in a drill of each kind of scenario."""

from __future__ import annotations

from importlib import import_module

from chalicelib.plan.model import Plan
from leeward.local.drill import Drill

# Module and class; the first that accepts a scenario is its stage.
STAGES = (
    ("artist", "ServerDrill"),
    ("artist", "HostedDatabaseDrill"),
    ("ransomware", "RansomwareDrill"),
    ("file_storage", "FileStorageDrill"),
    ("failback", "FailbackDrill"),
    ("artist_failback", "ArtistFailbackDrill"),
    ("great_loss", "GreatLossDrill"),
    ("site_loss", "SiteLossDrill"),
    ("outage", "OutageDrill"),
    ("database", "DatabaseDrill"),
)


def stage_of(plan: Plan, scenario: str) -> type[Drill] | None:
    """The stage on which the scenario can be drilled in the local cloud; None: nobody made one."""
    for module, name in STAGES:
        stage: type[Drill] = getattr(import_module(f"leeward.local.stages.{module}"), name)
        if stage.accepts(plan, scenario):
            return stage
    return None
