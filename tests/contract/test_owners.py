"""What the operator could not give back to its owner is told before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.errors import NotReady
from chalicelib.recover.database.owners import check_owners
from leeward.local.sample_app import create_schema
from tests.contract.test_reshaped import server as server
from tests.servers import RealServer


@pytest.fixture
def production(server: RealServer) -> Iterator[RealServer]:
    server.run("CREATE DATABASE nexus OWNER nexus_app")
    server.run("CREATE EXTENSION pg_stat_statements", database="nexus")
    create_schema(server.dsn("nexus", "nexus_app", "app"), projects=20)
    yield server
    server.run("DROP DATABASE nexus WITH (FORCE)")


def owners(server: RealServer) -> str:
    return check_owners(PostgresDatabases(server.dsn("nexus", "leeward", "operator")))


def test_what_it_is_a_member_of_and_what_an_extension_owns(production: RealServer) -> None:
    assert owners(production) == "1 owners, a member of each"


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("ALTER DATABASE nexus OWNER TO postgres", "the database of postgres"),
        ("ALTER TABLE assets OWNER TO postgres", "public.assets of postgres"),
        ("CREATE SCHEMA audit", "schema audit of postgres"),
        (
            "CREATE FUNCTION price() RETURNS int LANGUAGE sql RETURN 1",
            "function public.price of postgres",
        ),
        ("ALTER SCHEMA public OWNER TO postgres", "schema public of postgres"),
    ],
)
def test_names_what_is_out_of_reach(production: RealServer, statement: str, what: str) -> None:
    production.run(statement, database="nexus")
    with pytest.raises(NotReady) as raised:
        owners(production)
    assert raised.value.instance_code == "owner-out-of-reach"
    assert raised.value.message.endswith(f"found {what}")
