"""What whoever follows a run asks of its own cloud several times a second, looked up where moto
holds it: the same as a request costs 5 ms, of the processor time that the run itself needs.

For the process that runs the cloud. No fault meets a glance.
"""

from __future__ import annotations

from leeward.local.iam import ACCOUNT


def is_running(execution: str) -> bool:
    """Whether an execution of a state machine, named by its ARN, has not ended."""
    from moto.stepfunctions.parser.models import stepfunctions_parser_backends

    region = execution.split(":")[3]
    found = stepfunctions_parser_backends[ACCOUNT][region].describe_execution(execution)
    return bool(found.status == "RUNNING")


def count_keys(bucket: str) -> int:
    """How many keys a bucket has, those with a delete marker among them: it grows with each key
    that was not there before."""
    from moto.s3.models import s3_backends

    return len(s3_backends[ACCOUNT]["aws"].get_bucket(bucket).keys)
