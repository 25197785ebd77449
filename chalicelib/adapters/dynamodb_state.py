"""StateStore in one DynamoDB table: keys `pk` and `sk`, the item's fields in a map `item`.

Beside them `expires_at` of items that have a `good_until`: seconds since 1970, by which DynamoDB
removes them (Time to Live), some days late and without anybody's right to delete.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.plan.records import parse_time

# What is over by a clock that is slow is still there for it.
GRACE = timedelta(days=1)


class DynamoDbState:
    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, partition: str, sort: str) -> dict[str, Any] | None:
        with mapped("dynamodb", item=f"{partition}/{sort}"):
            answer = self._client.get_item(
                TableName=self._table, Key=_key(partition, sort), ConsistentRead=True
            )
        return _item(answer["Item"]) if "Item" in answer else None

    def create(self, partition: str, sort: str, item: dict[str, Any]) -> bool:
        return self._put(partition, sort, item, ConditionExpression="attribute_not_exists(pk)")

    def replace(
        self, partition: str, sort: str, item: dict[str, Any], *, expected: dict[str, Any]
    ) -> bool:
        return self._put(partition, sort, item, **_condition(expected))

    def remove(self, partition: str, sort: str, *, expected: dict[str, Any]) -> bool:
        with mapped("dynamodb", item=f"{partition}/{sort}"):
            try:
                self._client.delete_item(
                    TableName=self._table, Key=_key(partition, sort), **_condition(expected)
                )
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    return False
                raise
        return True

    def query(self, partition: str, prefix: str = "") -> Iterator[dict[str, Any]]:
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :p" + (" AND begins_with(sk, :s)" if prefix else ""),
            "ExpressionAttributeValues": {":p": {"S": partition}}
            | ({":s": {"S": prefix}} if prefix else {}),
            "ConsistentRead": True,
        }
        while True:
            with mapped("dynamodb", partition=partition):
                answer = self._client.query(**request)
            yield from (_item(found) for found in answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _put(self, partition: str, sort: str, item: dict[str, Any], **condition: Any) -> bool:
        body = {name: value for name, value in item.items() if name != "sort"}
        stored = _key(partition, sort) | {"item": TypeSerializer().serialize(_storable(body))}
        stored |= _expiry(body)
        with mapped("dynamodb", item=f"{partition}/{sort}"):
            try:
                self._client.put_item(TableName=self._table, Item=stored, **condition)
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    return False
                raise
        return True


def _key(partition: str, sort: str) -> dict[str, Any]:
    return {"pk": {"S": partition}, "sk": {"S": sort}}


def _expiry(body: dict[str, Any]) -> dict[str, Any]:
    if "good_until" not in body:
        return {}
    return {"expires_at": {"N": str(int((parse_time(body["good_until"]) + GRACE).timestamp()))}}


def _condition(expected: dict[str, Any]) -> dict[str, Any]:
    """`expected` names fields of the item; an empty one asks only that the item exists."""
    names, values, clauses = {}, {}, ["attribute_exists(pk)"]
    for number, (name, value) in enumerate(expected.items()):
        names[f"#n{number}"] = name
        values[f":v{number}"] = TypeSerializer().serialize(_storable(value))
        clauses.append(f"#item.#n{number} = :v{number}")
    condition: dict[str, Any] = {"ConditionExpression": " AND ".join(clauses)}
    if expected:
        condition["ExpressionAttributeNames"] = {"#item": "item"} | names
        condition["ExpressionAttributeValues"] = values
    return condition


def _item(found: dict[str, Any]) -> dict[str, Any]:
    item = _plain(TypeDeserializer().deserialize(found["item"]))
    return dict(item) | {"sort": found["sk"]["S"]}


def _storable(value: Any) -> Any:
    """boto3 has no floats for DynamoDB: they travel as {"~float": text} and come back exact."""
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return {"~float": repr(value)}
    if isinstance(value, dict):
        return {name: _storable(item) for name, item in value.items()}
    return [_storable(item) for item in value]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if "~float" in value:
            return float(value["~float"])
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    return int(value)
