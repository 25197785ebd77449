"""The command of a task's container: fetch the zip of the Lambdas, check it, become its worker.

Never imported: its text is the container's command (leeward/packaging/tasks.py). The image has
Python and boto3, which Lambda's own image for Python has; everything else is in the zip.
"""

import hashlib
import io
import os
import sys
import zipfile

sys.path.append("/var/runtime")  # where older images of Lambda keep boto3

import boto3  # noqa: E402

bucket, key, wanted = (os.environ[f"LEEWARD_CODE_{name}"] for name in ("BUCKET", "KEY", "SHA256"))
code = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
found = hashlib.sha256(code).hexdigest()
if found != wanted:
    sys.exit(f"expected s3://{bucket}/{key} to have the SHA-256 {wanted}, found {found}")
folder = os.path.join(os.environ.get("TMPDIR", "/tmp"), "leeward-code")
zipfile.ZipFile(io.BytesIO(code)).extractall(folder)
os.chdir(folder)
os.execv(sys.executable, [sys.executable, "-B", "-m", "chalicelib.services.task"])
