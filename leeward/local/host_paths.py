"""Where a host's absolute paths lie on this machine: below the folder that is its root.

A host in the local cloud is no container (that needs rights which a developer may not have), so
its scripts, units and settings are rewritten instead: a path in one of the folders that a host has
of its own is one below its root; /usr, /bin, /dev and the like are this machine's, and so is the
Python that runs here with what is installed in it, wherever it lies (a checkout below /home, say).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

OWN = ("backups", "etc", "home", "opt", "root", "run", "srv", "tmp", "var")
# A slash that begins a path: nothing of a path, an address or a name stands before it.
_PATH = rf"(?<![\w./~%-])(?!(?:%s)(?:/|(?![\w.-])))/({'|'.join(OWN)})(?![\w.-])"


def on_this_machine(text: str, root: Path) -> str:
    """The text with each path of the host's own as the path below `root`; done twice as once, as
    what a script writes into a file was rewritten with the script."""
    # Not sys.prefix: without the module site (-S), that of a virtual environment is not known.
    python = Path(sys.executable).parents[1]
    left = "|".join(re.escape(str(it)) for it in (root, python, sys.base_prefix))
    return re.sub(_PATH.replace("%s", left, 1), lambda found: f"{root}/{found[1]}", text)
