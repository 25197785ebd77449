"""Bash that puts copies in their place on a server, which needs curl, tar, zstd and git alone.

What a script exits with says what went wrong, so that a download that broke is never taken for
damage. An address that is signed lets its bearer read one object for some minutes: it is given to
curl in a file, which no list of processes shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

NO_DOWNLOAD, WRONG_DIGEST, NOT_UNPACKED, PATH_MISSING, NO_REVISION = 64, 65, 66, 67, 68
NO_UPLOAD, TOO_LARGE, NOT_ON_DISK = 69, 70, 71
# Of one PUT. Source: "Amazon S3 multipart upload limits".
UPLOAD_BYTES = 5 << 30
# What a server may lack.
NO_PROGRAM = 127
# `keep PATH`: each file and folder of it on the disk, and its name.
_KEEP = (
    'keep() { find "$1" ! -type l -exec sync {} + && sync "$(dirname "$1")"'
    f" || exit {NOT_ON_DISK}; }}"
)
RESTORES = "/var/lib/leeward/restores"
GIT_SECONDS = 300


@dataclass(frozen=True)
class Download:
    """An object: where it can be read for a while, and what it is."""

    url: str
    sha256: str


def place_files(key: str, download: Download, root: str, paths: Sequence[str]) -> str:
    """Unpack an archive beside the paths, then give each its place; what lay there stays beside it.

    Repeats harmlessly. Args: paths: absolute, each below `root`, of which the archive is.
    """
    moves = [
        f"place {quote(_below(root, path))} {quote(path)} {quote(f'{path}.before-{_name(key)}')}"
        for path in paths
    ]
    return "\n".join(
        [
            _fetch(key, download),
            # tar ends at the archive's end; what pads it must be read, or zstd dies of its pipe.
            "mkdir files; zstd -dcq object | { tar -x -p -C files && cat > /dev/null; }"
            f" || exit {NOT_UNPACKED}",
            _KEEP,
            "place() {",
            f'  [ -e "files/$1" ] || [ -L "files/$1" ] || exit {PATH_MISSING}',
            '  if [ -e "$2" ] && [ ! -e "$3" ]; then mv -T "$2" "$3"; fi',
            '  rm -rf "$2"; mkdir -p "$(dirname "$2")"; mv -T "files/$1" "$2"; keep "$2"',
            "}",
            'found=$(find files ! -type d | wc -l); echo "$found"',
            *moves,
            "cd /; rm -rf " + quote(_folder(key)),
        ]
    )


def send_files(key: str, url: str, root: str, paths: Sequence[str]) -> str:
    """Pack the paths and write them to an address; the last three lines of the output are the
    archive's digest, the digest of what is in it, and the number of files.

    Args: paths: absolute, each below `root`, of which the archive is.
    """
    gathered = [f"gather {quote(path)} {quote('files/' + _below(root, path))}" for path in paths]
    return "\n".join(
        [
            _empty(key),
            "set -o pipefail",
            "gather() {",
            f'  [ -e "$1" ] || exit {PATH_MISSING}',
            # Links take no room; they end at the edge of a file system.
            '  mkdir -p "$(dirname "$2")"; cp -al "$1" "$2" 2>/dev/null || cp -a "$1" "$2"',
            "}",
            *gathered,
            "tar -c -C files . | zstd -q -T0 -o object",
            f'[ "$(stat -c %s object)" -le {UPLOAD_BYTES} ] || exit {TOO_LARGE}',
            _address(url),
            "curl -sS --fail --retry 3 --connect-timeout 10 -o answer -T object --config where"
            f" || exit {NO_UPLOAD}",
            "rm -f where",
            "sha256sum object | cut -c1-64",
            tell_contents(paths),
            f"cd /; rm -rf {quote(_folder(key))}",
        ]
    )


def tell_contents(paths: Sequence[str]) -> str:
    """Two lines: the digest of every file, link and folder below the paths, and how many files."""
    named = " ".join(quote(path) for path in paths)
    return "\n".join(
        [
            "contents() {",
            '  cd "$(dirname "$1")"; name=$(basename "$1")',
            '  find "$name" -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum',
            "  find \"$name\" ! -type f -printf '%y %p %l\\n' | LC_ALL=C sort",
            "}",
            f'for path in {named}; do (contents "$path"); done | sha256sum | cut -c1-64',
            f"find {named} -type f | wc -l",
        ]
    )


def clone_repository(key: str, url: str, folder: str, revision: str) -> str:
    """A clone of the repository at a revision; its commit is the last line of the output."""
    return "\n".join(
        [
            _empty(key),
            "export GIT_TERMINAL_PROMPT=0",
            f"timeout {GIT_SECONDS} git clone -q --no-checkout {quote(url)} code"
            f" || exit {NO_DOWNLOAD}",
            _check_out(key, folder, revision),
        ]
    )


def clone_bundle(key: str, download: Download, folder: str, revision: str, url: str) -> str:
    """The same from a bundle; `url`: what the clone calls its origin, as it will be one again."""
    return "\n".join(
        [
            _fetch(key, download),
            f"git clone -q --no-checkout object code || exit {NOT_UNPACKED}",
            f"git -C code remote set-url origin {quote(url)}",
            _check_out(key, folder, revision),
        ]
    )


def tell_revision(folder: str) -> str:
    """The commit that is checked out in a folder of a server."""
    return f"git -C {quote(folder)} rev-parse --verify HEAD"


def tell_settings(settings: Mapping[str, str], units: Sequence[str]) -> str:
    """Variables of units, over those of their own files: systemd reads files in order, and what
    lies in a unit's folder `.d` comes after the unit.

    Source: systemd.exec(5), EnvironmentFile=; systemd.unit(5), drop-in files.
    """
    lines = [f"printf '%s\\n' {quote(f'{key}={value}')}" for key, value in sorted(settings.items())]
    drop_in = "printf '[Service]\\nEnvironmentFile=/etc/leeward/settings\\n'"
    folders = [quote(f"/etc/systemd/system/{unit}.service.d") for unit in units]
    return "\n".join(
        [
            "mkdir -p /etc/leeward",
            f"{{ {'; '.join(lines)}; }} >/etc/leeward/settings",
            *(f"mkdir -p {it}; {drop_in} >{it}/leeward.conf" for it in folders),
            "systemctl daemon-reload",
        ]
    )


def _check_out(key: str, folder: str, revision: str) -> str:
    beside = f"{folder}.before-{_name(key)}"
    return "\n".join(
        [
            f"git -C code checkout -q --detach {quote(revision)} || exit {NO_REVISION}",
            "git -C code rev-parse HEAD",
            f"if [ -e {quote(folder)} ] && [ ! -e {quote(beside)} ]; "
            f"then mv -T {quote(folder)} {quote(beside)}; fi",
            f'rm -rf {quote(folder)}; mkdir -p "$(dirname {quote(folder)})"',
            _KEEP,
            f"mv -T code {quote(folder)}; keep {quote(folder)}; cd /; rm -rf {quote(_folder(key))}",
        ]
    )


def _fetch(key: str, download: Download) -> str:
    return "\n".join(
        [
            _empty(key),
            _address(download.url),
            "curl -sS --fail --retry 3 --connect-timeout 10 -o object --config where"
            f" || exit {NO_DOWNLOAD}",
            "rm -f where",
            f"echo '{download.sha256}  object' | sha256sum --check --status || exit {WRONG_DIGEST}",
        ]
    )


def _address(url: str) -> str:
    return f"cat >where <<'END-OF-ADDRESS'\nurl = \"{url}\"\nEND-OF-ADDRESS"


def _empty(key: str) -> str:
    folder = quote(_folder(key))
    return f"rm -rf {folder}; mkdir -p -m 700 {folder}; cd {folder}"


def _folder(key: str) -> str:
    return f"{RESTORES}/{_name(key)}"


def _name(key: str) -> str:
    return key.replace("/", "_")


def _below(root: str, path: str) -> str:
    return path[len(root.rstrip("/")) :].lstrip("/")
