"""The people of the plan and their roles."""

from __future__ import annotations

from chalicelib.api.models.shape import Shown


class Person(Shown):
    person: str
    title: str
    external: bool
    roles: list[str]


class RoleLine(Shown):
    role: str
    title: str
    may: list[str]
    held_by: list[str]
    covered_by: str | None


class People(Shown):
    people: list[Person]
    roles: list[RoleLine]
