"""S3 Batch Operations on loopback, as its API reference has it: jobs over CSV manifests that copy.

It stands for AWS, which the tests never call: XML in and out, one job a token, a manifest that must
have the ETag it was announced with, states that follow each other, a report of what failed. The
objects are those of another S3 server.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote_plus, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from botocore.exceptions import ClientError

NAMESPACE = "{http://awss3control.amazonaws.com/doc/2018-08-20/}"
STATES = ("New", "Preparing", "Active", "Complete")


@dataclass
class Job:
    """`asked`: how often it was described."""

    token: str
    body: bytes
    request: ElementTree.Element
    made_at: float = field(default_factory=time.monotonic)
    asked: int = 0
    lines: list[tuple[list[str], str]] = field(default_factory=list)
    why: str = ""

    def text(self, path: str) -> str:
        found = self.request.find("/".join(NAMESPACE + part for part in path.split("/")))
        return "" if found is None else found.text or ""


@dataclass
class BatchServer:
    """`s3` does the copies. `refusals`: what the next requests are answered. `known_after_seconds`:
    for so long nobody finds a job that was made."""

    s3: Any
    port: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    accounts: set[str] = field(default_factory=set)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    known_after_seconds: float = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def create(self, body: bytes) -> tuple[int, str]:
        request = ElementTree.fromstring(body)
        assert request.tag == f"{NAMESPACE}CreateJobRequest", request.tag
        made = Job(request.findtext(f"{NAMESPACE}ClientRequestToken") or "", body, request)
        for name, job in self.jobs.items():
            if job.token == made.token:
                if job.body != body:
                    return 400, _error("IdempotencyException", "other parameters")
                return 200, f"<CreateJobResult><JobId>{name}</JobId></CreateJobResult>"
        name = f"job-{len(self.jobs) + 1}"
        self.jobs[name] = made
        return 200, f"<CreateJobResult><JobId>{name}</JobId></CreateJobResult>"

    def describe(self, name: str) -> tuple[int, str]:
        job = self.jobs[name]
        if time.monotonic() - job.made_at < self.known_after_seconds:
            return 404, _error("NoSuchJobException", "no such job")
        status = STATES[min(job.asked, len(STATES) - 1)]
        job.asked += 1
        if status == "Preparing":
            job.why = self._unreadable(job)
        if status == "Complete" and not job.lines and not job.why:
            self._carry_out(name, job)
        if job.why:
            status = "Failed"
        return 200, _described(name, job, status)

    def _unreadable(self, job: Job) -> str:
        bucket, key = self._manifest(job)
        found = self.s3.head_object(Bucket=bucket, Key=key)
        if found.get("ServerSideEncryption") == "aws:kms":
            return "CSV manifests that are encrypted by KMS are not supported"
        etag = found["ETag"].strip('"')
        return "" if etag == job.text("Manifest/Location/ETag") else "Manifest ETag mismatch"

    def _manifest(self, job: Job) -> tuple[str, str]:
        bucket, _, key = job.text("Manifest/Location/ObjectArn").split(":", 5)[5].partition("/")
        return bucket, key

    def _carry_out(self, name: str, job: Job) -> None:
        bucket, key = self._manifest(job)
        text = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
        operation = "Operation/S3PutObjectCopy"
        target = job.text(f"{operation}/TargetResource").rpartition(":")[2]
        for row in csv.reader(io.StringIO(text)):
            source, copied = row[0], unquote_plus(row[1])
            try:
                self.s3.copy_object(
                    Bucket=target,
                    Key=copied,
                    CopySource={"Bucket": source, "Key": copied},
                    StorageClass=job.text(f"{operation}/StorageClass"),
                    MetadataDirective=job.text(f"{operation}/MetadataDirective"),
                )
                job.lines.append((row, ""))
            except ClientError as error:
                job.lines.append((row, error.response["Error"]["Code"]))
        self._report(name, job)

    def _report(self, name: str, job: Job) -> None:
        failed = [(row, code) for row, code in job.lines if code]
        if not failed:
            return
        bucket = job.text("Report/Bucket").rpartition(":")[2]
        folder = f"{job.text('Report/Prefix')}/job-{name}"
        out = io.StringIO()
        for row, code in failed:
            csv.writer(out).writerow([row[0], row[1], "", "failed", code, "404", "no such object"])
        part = f"{folder}/results/{hashlib.md5(out.getvalue().encode()).hexdigest()}.csv"
        self.s3.put_object(Bucket=bucket, Key=part, Body=out.getvalue().encode())
        manifest = {"Format": "Report_CSV_20180820", "Results": [{"Bucket": bucket, "Key": part}]}
        self.s3.put_object(
            Bucket=bucket, Key=f"{folder}/manifest.json", Body=json.dumps(manifest).encode()
        )


def _described(name: str, job: Job, status: str) -> str:
    failed = sum(1 for _, code in job.lines if code)
    counts = ""
    if job.lines:
        counts = (
            f"<ProgressSummary><TotalNumberOfTasks>{len(job.lines)}</TotalNumberOfTasks>"
            f"<NumberOfTasksSucceeded>{len(job.lines) - failed}</NumberOfTasksSucceeded>"
            f"<NumberOfTasksFailed>{failed}</NumberOfTasksFailed></ProgressSummary>"
        )
    why = ""
    if job.why:
        why = (
            "<FailureReasons><JobFailure><FailureCode>ManifestETagMismatch</FailureCode>"
            f"<FailureReason>{escape(job.why)}</FailureReason></JobFailure></FailureReasons>"
        )
    return (
        f"<DescribeJobResult><Job><JobId>{name}</JobId><Status>{status}</Status>"
        f"{counts}{why}</Job></DescribeJobResult>"
    )


def _error(code: str, message: str) -> str:
    said = f"<Code>{code}</Code><Message>{message}</Message>"
    return f"<ErrorResponse><Error>{said}</Error></ErrorResponse>"


@contextmanager
def batch_server(s3: Any = None) -> Iterator[BatchServer]:
    """Also as an HTTP proxy for a host whose name is not known here."""
    served = BatchServer(s3)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: str) -> None:
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            served.accounts.add(self.headers["x-amz-account-id"])
            path = urlsplit(self.path).path
            if served.refusals:
                status, code = served.refusals.pop(0)
                self._answer(status, _error(code, "not now"))
            elif (self.command, path) == ("POST", "/v20180820/jobs"):
                self._answer(*served.create(body))
            else:
                assert (self.command, path[:16]) == ("GET", "/v20180820/jobs/"), path
                self._answer(*served.describe(path[16:]))

        do_GET = do_POST = _serve

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield served
        server.shutdown()
        thread.join()
