"""The patches of the local cluster: what a real one makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from leeward.local.kubernetes.patch import left_out, merge, merge_strategic

BEFORE = {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        ({"a": {"b": None}}, {"a": {"c": 2}, "d": [1]}),
        ({"d": [2]}, {"a": {"b": 1, "c": 2}, "d": [2]}),
        ({"a": 3}, {"a": 3, "d": [1]}),
    ],
)
def test_a_merge_patch_is_that_of_rfc_7386(patch: Any, after: Any) -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, patch) == after


def test_a_strategic_patch_merges_lists_by_name() -> None:
    env = [{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}]
    after = merge_strategic(BEFORE, {"containers": [{"name": "a", "env": env}]})
    assert after == {"containers": [{"name": "a", "env": env}, {"name": "b"}]}
    assert BEFORE["containers"][0]["env"] == [{"name": "X", "value": "1"}]


def test_it_deletes_what_is_marked_and_nulls_what_is_null() -> None:
    entries = [{"name": "X", "$patch": "delete"}]
    after = merge_strategic(BEFORE, {"containers": [{"name": "a", "env": entries}]})
    assert after["containers"][0]["env"] == []
    change = [{"name": "X", "value": None, "valueFrom": {"k": 1}}]
    after = merge_strategic(BEFORE, {"containers": [{"name": "a", "env": change}]})
    assert after["containers"][0]["env"] == [{"name": "X", "valueFrom": {"k": 1}}]


def test_ports_are_merged_by_the_key_that_they_have() -> None:
    service = {"ports": [{"port": 80, "nodePort": 30000}]}
    assert merge_strategic(service, {"ports": [{"port": 80, "targetPort": 8080}]}) == {
        "ports": [{"port": 80, "nodePort": 30000, "targetPort": 8080}]
    }
    container = {"ports": [{"containerPort": 80}]}
    assert len(merge_strategic(container, {"ports": [{"containerPort": 81}]})["ports"]) == 2


def test_what_an_apply_leaves_out_goes_and_what_others_set_stays() -> None:
    now = {"containers": [{"name": "a", "env": []}], "data": {"kept": 1}}
    earlier = {**BEFORE, "data": {"kept": 1, "gone": 2}}
    gone = left_out(earlier, now)
    stored = {**BEFORE, "data": {"kept": 1, "gone": 2, "others": 3}}
    after = merge_strategic(merge_strategic(stored, gone), now)
    assert after["data"] == {"kept": 1, "others": 3}
    assert after["containers"] == [{"name": "a", "env": []}]
