"""Secrets Manager: the addresses of databases, {"dsn": ...}, and pointing one to another database.

The version before keeps the stage AWSPREVIOUS. No password is in an error or a log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import NAMESPACE_OID, uuid5

from psycopg.conninfo import make_conninfo

from chalicelib.adapters.aws_errors import mapped
from chalicelib.adapters.postgres.database import parse_dsn
from chalicelib.errors import NotReady


@dataclass(frozen=True)
class Address:
    """A secret's content. `version` is its id; `repr` leaves the content out."""

    content: dict[str, Any]
    version: str

    @property
    def dsn(self) -> str:
        return str(self.content["dsn"])

    @property
    def database(self) -> str:
        parameters = parse_dsn(self.dsn)
        return str(parameters.get("dbname") or parameters.get("user") or "postgres")

    def __repr__(self) -> str:
        return f"Address(version={self.version!r})"


class SecretAddresses:
    """Reads and rewrites them with a Secrets Manager client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, name: str) -> Address:
        """Raises NotReady (code "bad-secret") when it is not {"dsn": ...}."""
        with mapped("secretsmanager", secret=name):
            answer = self._client.get_secret_value(SecretId=name)
        try:
            content = json.loads(answer["SecretString"])
            return Address({**content, "dsn": str(content["dsn"])}, answer["VersionId"])
        except (KeyError, TypeError, ValueError):
            raise NotReady(
                f'expected {{"dsn": ...}} in the secret {name}, found something else',
                code="bad-secret",
                hint="Store the address as one JSON object with the key dsn.",
            ) from None

    def content(self, name: str) -> dict[str, Any]:
        """All of a secret that is one JSON object. Raises NotReady (code "bad-secret")."""
        with mapped("secretsmanager", secret=name):
            text = self._client.get_secret_value(SecretId=name)["SecretString"]
        try:
            return dict(json.loads(text))
        except (TypeError, ValueError):
            raise NotReady(
                f"expected a JSON object in the secret {name}, found something else",
                code="bad-secret",
                hint="Store what it holds as one JSON object.",
            ) from None

    def replace(self, name: str, content: dict[str, Any]) -> bool:
        """Store another content; True when the secret was another region's replica until now.

        A replica cannot be written to: it is made a secret of its own first, which asks nothing of
        the region that it came from. Nothing follows from there any more.
        """
        with mapped("secretsmanager", secret=name):
            home = self._client.describe_secret(SecretId=name).get("PrimaryRegion")
            is_replica = home not in (None, self._client.meta.region_name)
            if is_replica:
                self._client.stop_replication_to_replica(SecretId=name)
            self._client.put_secret_value(SecretId=name, SecretString=json.dumps(content))
        return is_replica

    def point_to(self, name: str, database: str) -> str:
        """Change the database's name in the address and nothing else; the database before it.

        Safe to repeat: an address that names the database already stays as it is, and two workers
        of one run that meet here store one version: its id comes from the version it replaces.
        """
        address = self.read(name)
        before = address.database
        if before != database:
            content = {**address.content, "dsn": with_database(address.dsn, database)}
            with mapped("secretsmanager", secret=name):
                self._client.put_secret_value(
                    SecretId=name,
                    SecretString=json.dumps(content),
                    ClientRequestToken=str(uuid5(NAMESPACE_OID, f"{address.version}/{database}")),
                )
        return before


def as_url(dsn: str) -> str:
    """postgresql://user:password@host:port/database?..., which applications read."""
    if urlsplit(dsn).scheme in ("postgresql", "postgres"):
        return dsn
    parts = {name: str(value) for name, value in parse_dsn(dsn).items()}
    given = {name: quote(parts.pop(name, ""), safe="") for name in ("user", "password", "dbname")}
    host, port = quote(parts.pop("host", ""), safe=""), parts.pop("port", "")
    login = f"{given['user']}:{given['password']}@" if given["user"] else ""
    rest = f"?{urlencode(parts)}" if parts else ""
    return f"postgresql://{login}{host}{port and ':' + port}/{given['dbname']}{rest}"


def with_database(dsn: str, database: str) -> str:
    """The same address, in the form that it had, for another database of the server."""
    parts = urlsplit(dsn)
    if parts.scheme in ("postgresql", "postgres"):
        return parts._replace(path="/" + quote(database, safe="")).geturl()
    return make_conninfo(**(parse_dsn(dsn) | {"dbname": database}))
