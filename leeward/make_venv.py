"""Makes a virtual environment with pip, where Python came without ensurepip too.

Debian and Ubuntu keep ensurepip in a package of its own, python3-venv: there pip is fetched. Run
by path before anything is installed, as `python3 -I leeward/make_venv.py FOLDER`: the standard
library alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen

PIP = "pip-26.0-py3-none-any.whl"
PIP_SHA256 = "98436feffb9e31bc9339cf369fd55d3331b1580b6a6f1173bacacddcf9c34754"
INDEX = "https://pypi.org/simple"
TIMEOUT_SECONDS = 60
HINT = """could not bring pip into the virtual environment: {why}
HINT:  this Python has no ensurepip; on Debian and Ubuntu: apt install python3-venv
"""


def main(folder: Path) -> int:
    """0, or 1 when there is no way to pip."""
    venv.create(folder, symlinks=True, with_pip=find_spec("ensurepip") is not None)
    python = folder / "bin" / "python"
    if find_spec("ensurepip"):
        return 0
    try:
        _bring_pip(python)
    except (URLError, OSError, LookupError, subprocess.CalledProcessError) as error:
        sys.stderr.write(HINT.format(why=error))
        return 1
    return 0


def _bring_pip(python: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="leeward-pip-") as temporary:
        wheel = Path(temporary, PIP)
        wheel.write_bytes(fetch_pip(os.environ.get("PIP_INDEX_URL", INDEX)))
        installer = [str(python), f"{wheel}/pip"]  # a wheel is a zip, which Python runs
        options = ["--quiet", "--no-index", "--disable-pip-version-check"]
        subprocess.run([*installer, "install", *options, str(wheel)], check=True)


def fetch_pip(index: str) -> bytes:
    """The pinned wheel of pip from a package index.

    Raises:
        URLError: the index does not answer.
        LookupError: it has no such wheel, or another under its name.
    """
    page = f"{index.rstrip('/')}/pip/"
    with urlopen(page, timeout=TIMEOUT_SECONDS) as answer:
        links = re.findall(r'href="([^"]+)"', answer.read().decode())
    found = [urljoin(page, it) for it in links if urlsplit(it).path.endswith(f"/{PIP}")]
    if not found:
        raise LookupError(f"expected {PIP} at {page}, found none")
    with urlopen(found[0], timeout=TIMEOUT_SECONDS) as answer:
        data: bytes = answer.read()
    if hashlib.sha256(data).hexdigest() != PIP_SHA256:
        raise LookupError(f"expected {PIP} of SHA-256 {PIP_SHA256}, found another")
    return data


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
