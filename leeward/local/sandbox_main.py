"""The Lambda runtime inside a sandbox: imports the handler once, then answers one event at a time.

Runs as a script in a fresh interpreter with nothing but the package on its path, or in one that was
forked from such (sandbox_mother.py), so it may use the standard library alone. Speaks JSON lines
with the runner over two inherited sockets:

    LEEWARD_CHANNEL_FD  in {"id", "event", "arn", "deadline"}   out {"ready"} or {"fatal"}, then
                        {"result"} or {"error"} per event
    LEEWARD_GATE_FD     out {"service", "operation", "parameters", "region"} of each AWS call
                        before it is made, with the region called; in {"denied": message or null}

Errors have the shape of AWS's own Python runtime: errorType is `type(error).__name__`.
Source: https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import json
import logging
import os
import resource
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape


class Lines:
    """JSON objects, one a line, over a socket."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._file = socket.socket(fileno=fd).makefile("rwb")

    def send(self, message: dict[str, Any]) -> None:
        self._file.write(json.dumps(message).encode() + b"\n")
        self._file.flush()

    def receive(self) -> Any:
        """The next object; None when the runner is gone."""
        line = self._file.readline()
        return json.loads(line) if line else None


class Context:
    """What AWS passes as the second argument of a handler."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._deadline = request["deadline"]
        self.aws_request_id = request["id"]
        self.invoked_function_arn = request["arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = None
        self.client_context = None

    def get_remaining_time_in_millis(self) -> int:
        return max(int((self._deadline - time.time()) * 1000), 0)


# Where a call that makes something names the tags that it is to have.
SPECIFIED = "TagSpecifications"


class Gate:
    """Asks the runner before each AWS call, as IAM would be asked, and makes the call known."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._lock = threading.Lock()

    def check(
        self, service: str, operation: str, parameters: dict[str, Any], region: str = ""
    ) -> Any:
        texts = {key: _text_of(it) for key, it in parameters.items()}
        texts |= _record_kind(operation, parameters)
        if entries := parameters.get("UpdateRoutingControlStateEntries"):
            texts["RoutingControlArn"] = entries[0]["RoutingControlArn"]
        if service in ("ec2", "ssm"):
            texts |= _of_servers(parameters)
        if operation == "ChangeResourceRecordSets":
            texts["Changes"] = json.dumps(parameters["ChangeBatch"]["Changes"])
        if operation == "CreateJob":
            texts["JobOperation"] = next(iter(parameters["Operation"]))
        if service == "dynamodb":
            texts["LeadingKey"] = _leading_key(parameters)
        asked = {"service": service, "operation": operation, "parameters": texts, "region": region}
        with self._lock:
            self._lines.send(asked)
            answer = self._lines.receive()
        return answer["denied"] if answer else None


def _text_of(value: Any) -> str:
    """Text as it is; of a list of texts the first, as what is asked for together is alike."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return first if isinstance(first, str) else ""


def _of_servers(parameters: dict[str, Any]) -> dict[str, str]:
    """Each instance, resource and group that a call is about, its template, the tags it gives."""
    found: dict[str, str] = {
        name: ",".join(parameters[name])
        for name in ("InstanceIds", "Resources", "Groups")
        if name in parameters
    }
    if instance := parameters.get("InstanceSpecification", {}).get("InstanceId"):
        found["InstanceId"] = instance
    if template := parameters.get("LaunchTemplate"):
        found["LaunchTemplate"] = template.get("LaunchTemplateName") or template["LaunchTemplateId"]
    given = [parameters.get("Tags", []), *(it["Tags"] for it in parameters.get(SPECIFIED, []))]
    found["Tags"] = json.dumps({it["Key"]: it["Value"] for tags in given for it in tags})
    return found


def _record_kind(operation: str, parameters: dict[str, Any]) -> dict[str, str]:
    """Of a call that writes a record of an incident, its kind as RecordKind."""
    key, body = str(parameters.get("Key", "")), parameters.get("Body")
    if operation != "PutObject" or "/records/" not in key or not key.startswith("inc-"):
        return {}
    return {"RecordKind": str(json.loads(body)["kind"])} if isinstance(body, bytes) else {}


def _leading_key(parameters: dict[str, Any]) -> str:
    """The partition that a call is about: `pk` of the one table, which a query gives as `:p`."""
    key = parameters.get("Key") or parameters.get("Item") or {}
    found = key.get("pk") or parameters.get("ExpressionAttributeValues", {}).get(":p") or {}
    return str(found.get("S", ""))


def guard_botocore(module: ModuleType, gate: Gate) -> None:
    """Puts the gate before `BaseClient._make_api_call`, the one door of all AWS calls."""
    client = module.BaseClient
    original = client._make_api_call

    def make_api_call(self: Any, operation_name: str, api_params: dict[str, Any]) -> Any:
        model = self.meta.service_model
        region = self.meta.region_name or ""
        denied = gate.check(model.signing_name, operation_name, api_params, region)
        if denied:
            code = "AccessDenied" if model.signing_name == "s3" else "AccessDeniedException"
            response = {
                "Error": {"Code": code, "Message": denied},
                "ResponseMetadata": {"HTTPStatusCode": 403},
            }
            raise self.exceptions.from_code(code)(response, operation_name)
        return original(self, operation_name, api_params)

    client._make_api_call = make_api_call


def guard_s3_http(module: ModuleType, gate: Gate) -> None:
    """Puts the gate before `S3Http._send`, the door of the calls that botocore does not make."""
    client = module.S3Http
    original = client._send

    async def send(self: Any, method: str, key: str, *rest: Any) -> Any:
        query, headers = dict(rest[0]), rest[1] or {}
        if denied := check_s3(gate, self.place, method, key, query, headers, None):
            return Denied(denied)
        return await original(self, method, key, *rest)

    client._send = send


def guard_s3_direct(module: ModuleType, gate: Gate) -> None:
    """As `guard_s3_http`, before `S3Direct._ask`."""
    client = module.S3Direct
    original = client._ask

    def ask(self: Any, request: Any) -> Any:
        method, name, query, headers = request[:4]
        denied = check_s3(gate, self._place, method, name, dict(query), headers, request.body)
        if denied:
            answer = DeniedAnswer(denied)
            return answer, answer
        return original(self, request)

    client._ask = ask


def check_s3(
    gate: Gate,
    place: Any,
    method: str,
    key: str,
    query: dict[str, str],
    headers: Mapping[str, str],
    body: Any,
) -> str:
    """The body of a denial, "" where there is none."""
    parameters = {"Bucket": place.bucket, "Key": key, "Body": body}
    for name, value in (
        ("VersionId", query.get("versionId")),
        ("CopySource", unquote(headers.get("x-amz-copy-source", ""))),
        ("IfNoneMatch", headers.get("If-None-Match")),
        ("ServerSideEncryption", headers.get("x-amz-server-side-encryption")),
        ("SSEKMSKeyId", headers.get("x-amz-server-side-encryption-aws-kms-key-id")),
    ):
        if value:
            parameters[name] = value
    operation = s3_operation(method, key, query, headers)
    why = gate.check("s3", operation, parameters, place.region)
    if not why:
        return ""
    return f"<Error><Code>AccessDenied</Code><Message>{escape(why)}</Message></Error>"


class Denied:
    """What S3 answers who has not the right."""

    status = 403

    def __init__(self, said: str) -> None:
        self.headers: dict[str, str] = {}
        self._body = said.encode()

    async def read(self) -> bytes:
        return self._body

    def close(self) -> None:
        """As an answer that was read."""


class DeniedAnswer(Denied):
    """The same as a connection that blocks gives it, and as that connection."""

    whole, usable = True, False

    def read(self, size_bytes: int = -1) -> bytes:  # type: ignore[override]
        return self._body

    read_all = read


# What tells an operation of S3 from the others of its method, in order; "" is what is left.
# "copy" stands for the header x-amz-copy-source.
ON_BUCKET = {
    "GET": {
        "list-type": "ListObjectsV2", "versions": "ListObjectVersions",
        "versioning": "GetBucketVersioning", "uploads": "ListMultipartUploads",
    },
    "POST": {"delete": "DeleteObjects"},
}  # fmt: skip
ON_OBJECT = {
    "HEAD": {"": "HeadObject"},
    "GET": {"tagging": "GetObjectTagging", "uploadId": "ListParts", "": "GetObject"},
    "PUT": {
        "copy&partNumber": "UploadPartCopy", "partNumber": "UploadPart", "copy": "CopyObject",
        "tagging": "PutObjectTagging", "": "PutObject",
    },
    "POST": {"uploads": "CreateMultipartUpload", "uploadId": "CompleteMultipartUpload"},
    "DELETE": {"uploadId": "AbortMultipartUpload", "": "DeleteObject"},
}  # fmt: skip


def s3_operation(method: str, key: str, query: dict[str, str], headers: Mapping[str, str]) -> str:
    """botocore's name of an S3 request. One that is not known here has no right to be made."""
    marks = {*query, "", *(["copy"] if "x-amz-copy-source" in headers else [])}
    for wanted, operation in (ON_OBJECT if key else ON_BUCKET).get(method, {}).items():
        if set(wanted.split("&")) <= marks:
            return operation
    return f"{method} {'&'.join(sorted(marks))}"


class AfterImport(importlib.abc.MetaPathFinder):
    """Runs `then` on the module `name` right after its import, without importing it early.

    botocore takes a quarter of a second to import; a function that makes no AWS call, or makes
    its first one late, must keep the cold start it has in AWS.
    """

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._then(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def load_handler(name: str) -> Callable[[Any, Any], Any]:
    module_name, _, attribute = name.rpartition(".")
    module = importlib.import_module(module_name)
    handler: Callable[[Any, Any], Any] = getattr(module, attribute)
    return handler


def describe_error(error: BaseException, request_id: str) -> dict[str, Any]:
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "requestId": request_id,
        "stackTrace": traceback.format_tb(error.__traceback__)[1:],
    }


def describe_failed_import(error: Exception, handler: str) -> dict[str, Any]:
    module_name, _, attribute = handler.rpartition(".")
    described = describe_error(error, "")
    if isinstance(error, ImportError):
        described["errorType"] = "Runtime.ImportModuleError"
        described["errorMessage"] = f"Unable to import module '{module_name}': {error}"
    elif isinstance(error, AttributeError) and getattr(error, "name", "") == attribute:
        described["errorType"] = "Runtime.HandlerNotFound"
        described["errorMessage"] = f"Handler '{attribute}' missing on module '{module_name}'"
    return described


def answer(handler: Callable[[Any, Any], Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        result = handler(request["event"], Context(request))
    except Exception as error:  # noqa: BLE001  the runtime reports every error of a handler
        return {"error": describe_error(error, request["id"])}
    try:
        return {"result": json.dumps(result, allow_nan=False)}
    except (TypeError, ValueError) as error:
        described = describe_error(error, request["id"])
        described["errorType"] = "Runtime.MarshalError"
        described["errorMessage"] = f"Unable to marshal response: {error}"
        return {"error": described}


def serve(channel: Lines, handler: Callable[[Any, Any], Any]) -> None:
    while (request := channel.receive()) is not None:
        response = answer(handler, request)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, b"\0" + request["id"].encode() + b"\n")  # the runner's mark: logs are complete
        channel.send(response)


def after_import(name: str, then: Callable[[ModuleType], None]) -> None:
    """Run `then` on the module: now when it is there (sandbox_mother.py), else once it is."""
    if name in sys.modules:
        then(sys.modules[name])
    else:
        sys.meta_path.insert(0, AfterImport(name, then))


def run(channel_fd: int, gate_fd: int) -> None:
    """Until the runner closes the channel. The environment is the function's."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a sandbox is ended by SIGQUIT
    root = os.environ["LAMBDA_TASK_ROOT"]
    if sys.path[0] != root:
        sys.path.insert(0, root)
    channel = Lines(channel_fd)
    gate = Gate(Lines(gate_fd))
    after_import("botocore.client", lambda it: guard_botocore(it, gate))
    after_import("chalicelib.adapters.s3.http", lambda it: guard_s3_http(it, gate))
    after_import("chalicelib.adapters.s3.direct", lambda it: guard_s3_direct(it, gate))
    logging.basicConfig(stream=sys.stdout, format="[%(levelname)s]\t%(asctime)s\t%(message)s")
    name = os.environ["_HANDLER"]
    try:
        handler = load_handler(name)
    except Exception as error:  # noqa: BLE001  the runtime reports every error of an import
        channel.send({"fatal": describe_failed_import(error, name)})
        return
    channel.send({"ready": True})
    serve(channel, handler)


if __name__ == "__main__":
    run(int(os.environ.pop("LEEWARD_CHANNEL_FD")), int(os.environ.pop("LEEWARD_GATE_FD")))
