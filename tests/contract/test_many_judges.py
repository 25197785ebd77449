"""The machine that syncs very many objects before two judges that know no Leeward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leeward.packaging.many import sync_machine
from tests.contract.test_asl_judges import JUDGES, judge

# statelint knows the states of 2016's language, not what an ItemReader may say of its file.
UNKNOWN = [
    f'Field "InputType" not allowed in State Machine.States.{name}.ItemReader'
    for name in ("Do the shards", "Write the inventory")
]


@pytest.mark.parametrize("name", JUDGES)
def test_the_machine_passes_and_a_broken_one_does_not(name: str, tmp_path: Path) -> None:
    machine = sync_machine("nexus-uploads")
    file = tmp_path / "sync.asl.json"
    file.write_text(json.dumps(machine))
    code, said = judge(name, file)
    assert code == 0 or ("2 errors" in said and all(it in said for it in UNKNOWN)), said
    machine["States"]["Do the shards"]["ItemProcessor"]["StartAt"] = "Nowhere"
    file.write_text(json.dumps(machine))
    assert "Nowhere" in judge(name, file)[1]
