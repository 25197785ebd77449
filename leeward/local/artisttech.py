"""Artist Tech's application and server, small: what the drills of its plan run and lose.

    image        units artisttech, nginx and redis; a Redis server that listens, nothing else
    repository   package.json, whose build notes the commit, and site.py
    host         what a running server has besides: code, settings, uploads, process list

site.py writes to the database as the sample application does, and says on /health what it was
started from: its revision, its greeting (a setting), how many uploads and keys there are.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from chalicelib.adapters.redis.throwaway import find_programs

PORT, SITE_PORT, REDIS_PORT = 8080, 3000, 6379
CODE = "opt/artisttech"
LEDGER = "var/lib/artisttech/ledger.jsonl"
UPLOADS = 40

UNITS = {
    "artisttech": f"""[Service]
WorkingDirectory=/{CODE}
EnvironmentFile=/etc/artisttech/env
ExecStart=python3 site.py
Restart=on-failure
""",
    "nginx": f"""[Service]
ExecStart=python3 -m leeward.local.front ${{ADDRESS}} {PORT} ${{ADDRESS}} {SITE_PORT}
Restart=on-failure
""",
    "redis": f"""[Service]
WorkingDirectory=/var/lib/redis
ExecStart=%(redis)s --bind ${{ADDRESS}} --port {REDIS_PORT} --save '' --requirepass %(password)s
Restart=on-failure
""",
}

SITE = '''"""The sample site of Artist Tech."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from redis import Redis

from leeward.local.sample_app import Studio

LEDGER = Path(os.environ["LEDGER"])
LEDGER.parent.mkdir(parents=True, exist_ok=True)
studio = Studio(os.environ["SECRET"], LEDGER, float(os.environ["RATE"]))
store = Redis.from_url(os.environ["REDIS"].format(**os.environ), socket_timeout=2)


def health():
    status, body = studio.health()
    uploads = Path(os.environ["UPLOADS"])
    body["revision"] = Path("dist/revision").read_text().strip()
    body["greeting"] = os.environ["GREETING"]
    body["uploads"] = sum(1 for it in uploads.rglob("*") if it.is_file())
    body["keys"] = store.dbsize()
    return status, body


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = health() if self.path == "/health" else (404, {})
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


signal.signal(signal.SIGTERM, lambda *_: studio.stopping.set())
server = ThreadingHTTPServer((os.environ["ADDRESS"], int(os.environ["PORT"])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
studio.run()
'''
PACKAGE = {
    "name": "artisttech",
    "scripts": {"build": "mkdir -p dist && git rev-parse HEAD >dist/revision"},
}


def make_image(folder: Path, *, password: str) -> Path:
    """What a new server has before anything is restored: programs, units, an empty Redis."""
    units = folder / "etc/systemd/system"
    wants = units / "multi-user.target.wants"
    wants.mkdir(parents=True)
    filled = {"redis": find_programs()[0], "password": password}
    for name, text in UNITS.items():
        (units / f"{name}.service").write_text(text % filled if name == "redis" else text)
    for name in ("redis", "nginx"):
        (wants / f"{name}.service").symlink_to(f"../{name}.service")
    (folder / "var/lib/redis").mkdir(parents=True)
    return folder


def make_repository(folder: Path) -> tuple[str, str]:
    """(address, deployed commit): a bare repository whose newest commit is not the deployed one."""
    work = folder / "work"
    work.mkdir(parents=True)
    (work / "package.json").write_text(json.dumps(PACKAGE))
    (work / "site.py").write_text(SITE)
    _git(work, "init", "-q", "-b", "main")
    deployed = _commit(work, "Serve the site")
    (work / "site.py").write_text(SITE + "raise SystemExit('not released yet')\n")
    _commit(work, "Begin something that is not released")
    _git(folder, "clone", "-q", "--bare", str(work), "artisttech.git")
    return f"file://{folder / 'artisttech.git'}", deployed


def set_up_host(root: Path, repository: str, revision: str, *, secret: str, password: str) -> None:
    """Deploy by hand, as its people did: settings, code at a revision, uploads, process list."""
    settings = {
        "PORT": SITE_PORT,
        "SECRET": secret,
        "REDIS": f"redis://:{password}@{{ADDRESS}}:{REDIS_PORT}",
        "UPLOADS": "/var/www/artisttech/uploads",
        "LEDGER": f"/{LEDGER}",
        "GREETING": "welcome-artists",
        "RATE": 50,
    }
    lines = "".join(f"{name}={value}\n" for name, value in settings.items())
    _write(root / "etc/artisttech/env", lines)
    _write(root / "etc/artisttech/revision", revision + "\n")
    _write(root / "home/artisttech/.pm2/dump.pm2", json.dumps([{"name": "artisttech"}]))
    for number in range(UPLOADS):
        _write(root / f"var/www/artisttech/uploads/{number % 4}/{number}.txt", f"work {number}\n")
    _write(root / "var/log/artisttech/access.log", "GET /\n")
    code = root / CODE
    code.parent.mkdir(parents=True, exist_ok=True)
    _git(code.parent, "clone", "-q", repository, code.name)
    _git(code, "checkout", "-q", "--detach", revision)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _commit(work: Path, message: str) -> str:
    _git(work, "add", ".")
    who = ("-c", "user.name=Artist Tech", "-c", "user.email=team@example.org")
    _git(work, *who, "commit", "-q", "-m", message)
    return _git(work, "rev-parse", "HEAD")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()
