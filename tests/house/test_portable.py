"""Nothing of Leeward's own asks for what macOS lacks, but where another way stands beside it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Functions and constants "Availability: Linux" in Python's documentation, or absent on macOS.
LINUX_ONLY = {
    "os": """
        O_DIRECT O_LARGEFILE O_NOATIME O_PATH O_RSYNC O_TMPFILE accept4 copy_file_range eventfd
        execveat fdatasync getrandom getresgid getresuid getxattr listxattr memfd_create pidfd_open
        pipe2 posix_fadvise posix_fallocate process_cpu_count removexattr sched_getaffinity
        sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setparam
        sched_setscheduler setns setresgid setresuid setxattr splice timerfd_create unshare
    """,
    "resource": "RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RUSAGE_THREAD prlimit",
    "select": "EPOLLIN EPOLLONESHOT EPOLLOUT epoll",
    "selectors": "EpollSelector",
    "signal": "SIGCLD SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT pidfd_send_signal sigtimedwait "
    "sigwaitinfo",
    "socket": """
        AF_ALG AF_NETLINK AF_PACKET AF_VSOCK MSG_CMSG_CLOEXEC MSG_MORE MSG_NOSIGNAL SOCK_CLOEXEC
        SOCK_NONBLOCK SO_BINDTODEVICE SO_DOMAIN SO_MARK SO_PASSCRED SO_PEERCRED SO_PROTOCOL
        TCP_CONGESTION TCP_CORK TCP_DEFER_ACCEPT TCP_KEEPIDLE TCP_QUICKACK TCP_SYNCNT
        TCP_USER_TIMEOUT
    """,
    "time": "CLOCK_BOOTTIME CLOCK_TAI",
}
ABSENT = {(module, name) for module, names in LINUX_ONLY.items() for name in names.split()}
LINUX_WORDS = ("/proc", "/sys/", "/dev/shm", "linux")
PROGRAMS = {"timeout", "setsid", "unshare", "taskset", "setpriv", "ldconfig", "nproc", "ip"}

# Where macOS takes another way: (file, what) -> that way.
GUARDED = {
    ("chalicelib/adapters/postgres/files.py", "/proc"): "ps, and the pid file alone",
    ("leeward/local/reaper.py", "/proc"): "a signal that does nothing tells who runs",
    ("leeward/local/runner.py", "linux"): "a new process for each function, no mother",
    ("leeward/packaging/libraries.py", "linux"): "this machine's wheels are laid over the package",
}


def asked_for(tree: ast.AST) -> Iterator[str]:
    """What of Linux a module names: "os.pipe2", "/proc", a program, or "linux" itself."""
    documentation = set(_docstrings(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in ABSENT:
                yield f"{module}.{name}"
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{it.name}" for it in names if (module, it.name) in ABSENT)
            case ast.List(elts=[ast.Constant(value=program), *_]) if program in PROGRAMS:
                yield str(program)
            case ast.Constant(value=str(text)) if id(node) not in documentation:
                yield from (it.rstrip("/") for it in LINUX_WORDS if text.startswith(it))


def _docstrings(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            yield id(body[0].value)


def test_what_macos_lacks_is_asked_for_only_where_there_is_another_way() -> None:
    modules = [ROOT / "app.py", *ROOT.glob("chalicelib/**/*.py"), *ROOT.glob("leeward/**/*.py")]
    found = {
        (str(path.relative_to(ROOT)), what)
        for path in modules
        for what in asked_for(ast.parse(path.read_text()))
    }
    assert found == set(GUARDED)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("os.sched_getaffinity(0)", "os.sched_getaffinity"),
        ("from socket import SO_PEERCRED", "socket.SO_PEERCRED"),
        ("Path('/proc/self/status')", "/proc"),
        ("open(f'/proc/{pid}/stat')", "/proc"),
        ("run(['timeout', '5', 'cp'])", "timeout"),
        ("sys.platform == 'linux'", "linux"),
    ],
)
def test_what_macos_lacks_is_found(text: str, found: str) -> None:
    assert list(asked_for(ast.parse(text))) == [found]


def test_names_differ_by_more_than_case() -> None:
    """The file system of a Mac takes `Plan.py` and `plan.py` for one file."""
    paths = [it for top in ("chalicelib", "leeward", "docs", "tests/golden", "policies")
             for it in (ROOT / top).rglob("*") if "__pycache__" not in it.parts]  # fmt: skip
    assert len({str(it).lower() for it in paths}) == len(paths)
