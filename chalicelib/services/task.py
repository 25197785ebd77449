"""A task of a run: the same steps as its Lambda's, one after the other, on one disk.

    python -m chalicelib.services.task          LEEWARD_RUN names the run

It takes the orders of incidents/orders.py and answers each by its token, as Lambda would: with the
step's outputs, or with the name of the error's class. While it works it says so (heartbeat). It
ends when there was nothing to do for a while, when its state waits no more (the run was ended, or
gave it up), and when it is stopped: then another one may begin at once.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from chalicelib.errors import LeewardError
from chalicelib.incidents.orders import Order, close, finish_order, take_order
from chalicelib.incidents.run import run_step
from chalicelib.services import build, environment
from chalicelib.services.steps.code import work_of

POLL_SECONDS = 1.0
# A person may be asked between two steps of one database; what is on the disk can be made again.
IDLE_SECONDS = 600.0
# Some of them may be lost before the state gives up (scenarios/compile.py, HEARTBEAT_SECONDS).
BEAT_SECONDS = 5.0
# As Step Functions' own name for a worker that was lost, it is tried again.
LOST = "Unavailable"
STOPPED = 143

log = logging.getLogger("leeward.task")


class Stopped(BaseException):
    """Somebody ends this task: ECS, or nobody waits for what it does. No step may catch it."""


def main() -> int:
    """The exit status: 0 when there was nothing more to do."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, _stop)
    run_id = environment.task_run()
    try:
        return _serve(run_id)
    except Stopped:
        close(run_id, state=build.state())
        return STOPPED


def _serve(run_id: str) -> int:
    since = time.monotonic()
    while True:
        order = take_order(run_id, state=build.state())
        if order is not None:
            _do(run_id, order)
            since = time.monotonic()
        elif time.monotonic() - since > IDLE_SECONDS and close(run_id, state=build.state()):
            log.info("nothing more to do for %s", run_id)
            return 0
        else:
            time.sleep(POLL_SECONDS)


def _do(run_id: str, order: Order) -> None:
    step = order.event["step"]
    log.info("%s of %s begins", step, run_id)
    tokens = build.tokens()
    try:
        with _beating(order.token):
            outputs = run_step(order.event, work_of(order.event["uses"]), desk=build.desk())
    except LeewardError as error:
        log.warning("%s failed: %s", step, error)
        finish_order(run_id, order, state=build.state())
        tokens.fail(order.token, type(error).__name__, _cause(error))
        return
    except Stopped:
        # First the order: who is told that it failed may ask for the next worker at once.
        close(run_id, state=build.state())
        tokens.fail(order.token, LOST, json.dumps({"errorMessage": "the task was stopped"}))
        raise
    except Exception as error:
        # The outermost: a fault of the code, told as the Lambda runtime tells it.
        close(run_id, state=build.state())
        tokens.fail(order.token, type(error).__name__, _cause(error))
        raise
    finish_order(run_id, order, state=build.state())
    tokens.succeed(order.token, outputs)
    log.info("%s is done: %s", step, outputs["found"])


def _cause(error: Exception) -> str:
    """As the Lambda runtime writes it, for whoever reads it (services/steps/closing.py)."""
    told: dict[str, Any] = {"errorType": type(error).__name__, "errorMessage": str(error)}
    return json.dumps(told)


@contextmanager
def _beating(token: str) -> Iterator[None]:
    """Signs of life while the block runs, the first at once; when nobody waits for them, the block
    ends by Stopped."""
    done = threading.Event()

    def beat() -> None:
        while not done.is_set():
            try:
                if not build.tokens().beat(token) and not done.is_set():
                    log.warning("nobody waits for it any more")
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
            except LeewardError as error:
                log.warning("a sign of life was lost: %s", error)
            done.wait(BEAT_SECONDS)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough to unwind by
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
