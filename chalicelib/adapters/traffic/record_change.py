"""Changing records: for the replacement of a server, never for the loss of a region.

Route 53's control plane is in us-east-1 alone (AWS Fault Isolation Boundaries, appendix B). All
records change in one batch or none does, and the change counts when every server has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.errors import BadInput, Unavailable
from chalicelib.plan.components import NameRecord
from chalicelib.ports import Clock
from chalicelib.ports.traffic import Moved, Switch

POLL_SECONDS = 1.0
# Route 53 promises "generally within 60 seconds".
IN_SYNC_SECONDS = 120.0


class RecordChanges:
    """The port Traffic, with a Route 53 client."""

    resolves = True

    def __init__(
        self, client: Any, zone: str, records: Sequence[NameRecord], *, clock: Clock
    ) -> None:
        self._client = client
        self._zone = zone
        self._records = records
        self._clock = clock

    def state(self) -> str:
        now = [self._values(record) for record in self._records]
        sites = set.intersection(*(set(record.answers) for record in self._records))
        for site in sorted(sites):
            if now == [sorted(record.answers[site]) for record in self._records]:
                return site
        return ""

    def _values(self, record: NameRecord) -> list[str]:
        with mapped("route53", zone=self._zone):
            page = self._client.list_resource_record_sets(
                HostedZoneId=self._zone,
                StartRecordName=record.name,
                StartRecordType=record.type,
                MaxItems="1",
            )
        found = page["ResourceRecordSets"]
        if not found or not _is_of(found[0], record):
            return []
        return sorted(it["Value"] for it in found[0].get("ResourceRecords", ()))

    def switch(self, switch: Switch) -> Moved:
        """Raises Unavailable (code "not-in-sync") when the servers take too long."""
        if lacking := [it.name for it in self._records if switch.to not in it.answers]:
            raise BadInput(
                f"expected answers for {switch.to}, found none of {', '.join(lacking)}",
                hint="name the site's addresses in the plan's records",
                code="no-such-site",
            )
        changes = [_upsert(record, switch.to) for record in self._records]
        with mapped("route53", zone=self._zone):
            change = self._client.change_resource_record_sets(
                HostedZoneId=self._zone,
                ChangeBatch={"Comment": f"leeward {switch.run_id}", "Changes": changes},
            )["ChangeInfo"]
            self._wait(change)
        names = ", ".join(record.name for record in self._records)
        back = switch.came_from or "the site before"
        return Moved(
            f"changed {names} to {switch.to}", f"change them to the plan's answers for {back}"
        )

    def _wait(self, change: dict[str, Any]) -> None:
        started = self._clock.now()
        while change["Status"] != "INSYNC":
            if (self._clock.now() - started).total_seconds() > IN_SYNC_SECONDS:
                raise Unavailable(
                    f"expected the change everywhere in {IN_SYNC_SECONDS:.0f} s, it is pending",
                    hint="the change stands and spreads; the step is tried again",
                    code="not-in-sync",
                )
            self._clock.sleep(POLL_SECONDS)
            change = self._client.get_change(Id=change["Id"])["ChangeInfo"]


def _is_of(found: dict[str, Any], record: NameRecord) -> bool:
    same_name = found["Name"].rstrip(".").lower() == record.name.rstrip(".").lower()
    return bool(same_name and found["Type"] == record.type)


def _upsert(record: NameRecord, site: str) -> dict[str, Any]:
    values = [{"Value": value} for value in record.answers[site]]
    return {
        "Action": "UPSERT",
        "ResourceRecordSet": {
            "Name": record.name,
            "Type": record.type,
            "TTL": record.ttl,
            "ResourceRecords": values,
        },
    }
