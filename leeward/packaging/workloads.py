"""What the policy of the function `workloads` needs to know of a plan: where its manifests lie."""

from __future__ import annotations

from typing import Any

from chalicelib.plan.components import Service
from chalicelib.plan.model import Plan


def workload_parameters(plan: Plan) -> dict[str, Any]:
    """IAM takes no empty list: without manifests there is a name that no bucket has."""
    services = [it for it in plan.components.values() if isinstance(it, Service)]
    found = {it.manifests.removeprefix("s3://") for it in services if it.manifests}
    places = sorted(found) or ["leeward-no-manifests"]
    return {
        "ManifestBuckets": _list({place.partition("/")[0] for place in places}),
        "ManifestObjects": _list(
            {f"{place}*" if "/" in place else f"{place}/*" for place in places}
        ),
    }


def _list(names: set[str]) -> dict[str, str]:
    arns = [f"arn:aws:s3:::{name}" for name in sorted(names)]
    return {"Type": "CommaDelimitedList", "Default": ",".join(arns)}
