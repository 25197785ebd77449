"""docs/plan.md names every key that a plan may have."""

from __future__ import annotations

import re
from pathlib import Path

from chalicelib.plan.model import Plan

PAGE = (Path(__file__).parents[2] / "docs/plan.md").read_text()


def test_every_key_of_the_model_is_on_the_page() -> None:
    schema = Plan.model_json_schema()
    keys = {
        key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", ())
    }

    code = re.findall(r"`[^`\n]+`|^    .+$", PAGE, re.MULTILINE)
    assert keys - set(re.findall(r"\b[a-z_]+\b", " ".join(code))) == set()
