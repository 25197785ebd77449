"""The OpenAPI 3.1 document of the JSON API, made from its table and its models. Pure."""

from __future__ import annotations

import re
from typing import Any

from pydantic.json_schema import models_json_schema

from chalicelib.api.models import model_named
from chalicelib.api.models.problems import Problem
from chalicelib.api.routes import DESCRIPTION, ROUTES, Route

Json = dict[str, Any]
VERSION = "1"
IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,159}$"
KEY = r"^[!-~]{8,128}$"
PROBLEMS = {
    "400": "the request cannot be used; `errors` names the fields",
    "401": "no token, or one that is not good",
    "403": "who asks may not, or the code is wrong",
    "404": "there is no such thing",
    "405": "the path does not do that",
    "409": "as things stand it cannot be done, or the same request is still being done",
    "413": "the body is too large",
    "415": "the body is not JSON",
    "422": "the idempotency key was used for another request",
    "429": "too many wrong codes, or too many requests",
    "500": "a defect",
    "502": "a function failed",
    "503": "something does not answer; the same request may be sent again",
    "504": "a function did not answer in time; the same request may be sent again",
}
PARAMETERS: Json = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
    "cursor": {"type": "string", "maxLength": 512, "description": "`next` of the page before."},
    "ended": {"type": "boolean", "default": False},
    "incident": {"type": "string", "pattern": IDENTIFIER},
}


def describe() -> Json:
    paths: Json = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    paths[DESCRIPTION] = {"get": _own_operation()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Leeward",
            "version": VERSION,
            "description": "Incidents, runs, approvals and readiness: docs/api.md.",
            "license": {"name": "as Leeward itself", "identifier": "LicenseRef-Leeward"},
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com/api",
                "variables": {"api": {"default": "api"}, "region": {"default": "us-east-1"}},
                "description": "The output EndpointURL of a stack.",
            }
        ],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
            "responses": _all_problems(),
            "schemas": _schemas(),
        },
    }


def _schemas() -> Json:
    shown = {route.answers for route in ROUTES} | {Problem.__name__}
    taken = {route.takes for route in ROUTES if route.takes}
    asked: Any = [(model_named(name), "serialization") for name in sorted(shown)]
    asked += [(model_named(name), "validation") for name in sorted(taken)]
    _, schemas = models_json_schema(asked, ref_template="#/components/schemas/{model}")
    found: Json = schemas["$defs"]
    return found


def _operation(route: Route) -> Json:
    described: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"Takes a token of scope `{'act' if route.acts else 'read'}`.",
        "parameters": [*_in_path(route), *_in_query(route), *([_KEY] if route.acts else [])],
        "responses": {str(route.status): _answer(route)} | _problems(),
    }
    if route.takes:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(route.takes)}},
        }
    return described


def _own_operation() -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": "get_openapi",
        "summary": "This document.",
        "responses": {"200": {"description": "OK", "content": content}} | _problems(),
    }


def _answer(route: Route) -> Json:
    answer: Json = {
        "description": "done" if route.acts else "found",
        "content": {"application/json": {"schema": _ref(route.answers)}},
    }
    headers: Json = {}
    if "cursor" in route.query:
        headers["Link"] = {"description": "the next page, `rel=next`", "schema": {"type": "string"}}
    if route.acts:
        what = "`true`: this is the answer to the same request before"
        headers["Idempotency-Replayed"] = {"description": what, "schema": {"type": "string"}}
    return answer | ({"headers": headers} if headers else {})


def _problems() -> Json:
    return {status: {"$ref": f"#/components/responses/Problem{status}"} for status in PROBLEMS}


def _all_problems() -> Json:
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    return {
        f"Problem{status}": {"description": what, "content": content}
        for status, what in PROBLEMS.items()
    }


def _in_path(route: Route) -> list[Json]:
    names = re.findall(r"\{(\w+)\}", route.path)
    schema = {"type": "string", "pattern": IDENTIFIER}
    return [{"name": it, "in": "path", "required": True, "schema": schema} for it in names]


def _in_query(route: Route) -> list[Json]:
    return [{"name": it, "in": "query", "schema": PARAMETERS[it]} for it in route.query]


_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "New for each thing that is said, the same when it is sent again; kept 24 h.",
    "schema": {"type": "string", "pattern": KEY},
}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
