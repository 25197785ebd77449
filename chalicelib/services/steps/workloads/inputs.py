"""What a step on application servers is given: the value of a variable, manifests in a bucket."""

from __future__ import annotations

from typing import Any

from chalicelib.errors import BadInput, NotReady
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Service
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on

ENDINGS = (".yaml", ".yml", ".json")


def value_of(run: Run, inputs: dict[str, Any]) -> tuple[str, str]:
    """The value, and how it is told.

    Raises BadInput (code "bad-value") unless exactly one of `value` and `address_of` is given.
    """
    value, database = inputs.get("value"), inputs.get("address_of")
    if (value is None) == (database is None):
        raise BadInput(
            "expected either `value` or `address_of` for the variable, found both or neither",
            hint="name the database whose address it is, or write the value",
            code="bad-value",
        )
    if value is not None:
        return str(value), str(value)
    from chalicelib.adapters.secrets import as_url

    target = acting_on(run, str(database))
    address = build.addresses().read(build.database(target).application_secret)
    return as_url(address.dsn), f"the address of {target}, database {address.database}"


def manifests_of(found: Service, target: str, inputs: dict[str, Any]) -> str:
    """All objects below the step's or the plan's address, in the order of their keys, as one text.

    Raises:
        NotReady: code "no-manifests".
    """
    address = str(inputs.get("manifests") or found.manifests or "")
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    texts = _read(bucket, prefix) if address.startswith("s3://") and bucket else []
    if not texts:
        raise NotReady(
            f"expected manifests of {target} at {address or 'an address in the plan'}, found none",
            hint="put them into a bucket of the site that they are for: `manifests: s3://...`",
            code="no-manifests",
        )
    return "\n---\n".join(texts)


def _read(bucket: str, prefix: str) -> list[str]:
    from chalicelib.adapters.s3.store import S3ObjectStore

    store = S3ObjectStore(build.objects_s3(), bucket)
    keys = [it.key for it in store.list(prefix) if it.key.endswith(ENDINGS)]
    return [store.get(key).decode() for key in keys]
