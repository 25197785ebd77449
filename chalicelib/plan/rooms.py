"""How much work fits where: into a Lambda, or into a task on Fargate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Where = Literal["lambda", "task"]

# What a database's data folder needs beside itself while it is recovered and looked at: WAL that
# is kept there, temporary files, and as much again while it is loaded elsewhere through a dump.
DISK_TIMES_DATA = 1.5
# Fargate's containers and the code lie on the same disk.
TASK_RESERVED_BYTES = 10 << 30


@dataclass(frozen=True)
class Room:
    """`seconds`: how long one worker may take."""

    disk_bytes: int
    seconds: int


# Source: "Lambda quotas", AWS Lambda developer guide (/tmp and timeout). A step has half of the
# time, as what was measured once is not kept to the second.
LAMBDA = Room(disk_bytes=10240 << 20, seconds=450)
# Source: "Fargate task ephemeral storage", Amazon ECS developer guide: 200 GiB at most. A task has
# no limit of time of its own: a day is what a state waits for one.
TASK = Room(disk_bytes=(200 << 30) - TASK_RESERVED_BYTES, seconds=86400)


def disk_for(data_bytes: float) -> int:
    """What recovering a database of this size needs."""
    return int(data_bytes * DISK_TIMES_DATA)
