"""Where a host's absolute paths lie on this machine: below the folder that is its root.

A host in the local cloud is no container (that needs rights which a developer may not have), so
its scripts, units and settings are rewritten instead: a path in one of the folders that a host has
of its own is one below its root; /usr, /bin, /dev and the like are this machine's.
"""

from __future__ import annotations

import re
from pathlib import Path

OWN = ("backups", "etc", "home", "opt", "root", "run", "srv", "tmp", "var")
# A slash that begins a path: nothing of a path, an address or a name stands before it.
_PATH = rf"(?<![\w./~%-])(?!%s(?:/|\b))/({'|'.join(OWN)})(?![\w.-])"


def on_this_machine(text: str, root: Path) -> str:
    """The text with each path of the host's own as the path below `root`; done twice as once, as
    what a script writes into a file was rewritten with the script."""
    pattern = _PATH.replace("%s", re.escape(str(root)), 1)
    return re.sub(pattern, lambda found: f"{root}/{found[1]}", text)
