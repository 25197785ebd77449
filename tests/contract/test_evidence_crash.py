"""An appender that is killed at any instant leaves a whole chain, and its successor goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.evidence.chain import verify_chain
from chalicelib.evidence.records import StoredRecords
from tests.fakes_records import SteppingClock

STREAM = "inc-20261122T084500Z-nexus-db"
APPENDER = """
import sys
from pathlib import Path
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.evidence.records import StoredRecords

records = StoredRecords(FolderObjectStore(Path(sys.argv[1])), SystemClock())
number = 0
while True:
    records.append("STREAM", "decision", {"n": number}, actor="leeward")
    print(number, flush=True)
    number += 1
""".replace("STREAM", STREAM)


def append_until(said: int, root: Path) -> int:
    """Kill the appender in the middle of whatever it does after it said a number."""
    process = subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= said:
            process.send_signal(signal.SIGKILL)
            break
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait(30)
    return int(rest[-1]) if rest else said


def test_killed_appenders_leave_a_whole_chain_with_nothing_doubled(tmp_path):
    for said in (3, 9, 20):
        confirmed = append_until(said, tmp_path)
        chain = StoredRecords(FolderObjectStore(tmp_path), SteppingClock()).read(STREAM)
        assert verify_chain(STREAM, chain) == []
        numbers = [record.body["n"] for record in chain]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > confirmed
