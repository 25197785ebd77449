"""A bucket of moto of which a moment is known, and in which much has gone wrong since."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.s3_servers import S3Server

OBJECTS = {f"img/{n:03}.jpg": b"picture %03d" % n for n in range(12)}


@dataclass
class Ruined:
    """Three objects deleted, six overwritten, one too many; `moment` is from before that."""

    server: S3Server
    name: str
    moment: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.server.key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.server.url,
        }

    def state(self, name: str = "") -> dict[str, bytes]:
        client, bucket = self.server.client, name or self.name
        rows = client.list_objects_v2(Bucket=bucket).get("Contents", ())
        keys = [row["Key"] for row in rows]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def end_of_second() -> str:
    """The last moment of a second that is over: S3's times are whole seconds, rounded down."""
    begun = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    time.sleep((begun - datetime.now(UTC)).total_seconds() + 0.01)
    return (begun - timedelta(microseconds=1)).isoformat()


def ruin_bucket(server: S3Server, name: str) -> Ruined:
    """Makes the bucket, and an empty one, NAME-then."""
    client = server.client
    client.create_bucket(Bucket=name)
    client.create_bucket(Bucket=f"{name}-then")
    versions = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration=versions)
    for key, body in OBJECTS.items():
        client.put_object(Bucket=name, Key=key, Body=body)
    moment = end_of_second()
    for number in range(3):
        client.delete_object(Bucket=name, Key=f"img/{number:03}.jpg")
    for number in range(3, 9):
        client.put_object(Bucket=name, Key=f"img/{number:03}.jpg", Body=b"encrypted")
    client.put_object(Bucket=name, Key="READ_ME.txt", Body=b"pay")
    return Ruined(server, name, moment)
