"""What the work needs from the world. Adapters implement these; tests pass in-memory fakes.

Every method raises the classes of chalicelib.errors alone. Times are aware UTC. A file is
imported when one of its names is asked for: nobody needs them all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chalicelib.ports.catalogue import Catalogue, Holdings, Inventory, RejectedPoint
    from chalicelib.ports.control import Clock, Metrics, Records, Signer, StateStore, Workflows
    from chalicelib.ports.postgres import (
        BackupSink,
        BaseBackup,
        Databases,
        DatabaseServer,
        Fault,
        Inspector,
        Recovery,
        ReplayPosition,
        ReplicationSource,
        ServerFactory,
        Session,
        SlotStatus,
        SourceFacts,
        TimelineEnd,
        ToolOutcome,
        WalStream,
        WalText,
    )
    from chalicelib.ports.storage import (
        CopiesByItself,
        FeedsPieces,
        KeepsNotes,
        KeepsUploads,
        LastingWriter,
        Leftover,
        Listed,
        ObjectStore,
        ObjectWriter,
        ReadsOn,
        RemovesUploads,
        StoredFacts,
        notes_of,
    )

__all__ = [
    "BackupSink",
    "BaseBackup",
    "Catalogue",
    "Clock",
    "CopiesByItself",
    "DatabaseServer",
    "Databases",
    "Fault",
    "FeedsPieces",
    "Holdings",
    "Inspector",
    "Inventory",
    "KeepsNotes",
    "KeepsUploads",
    "LastingWriter",
    "Leftover",
    "Listed",
    "Metrics",
    "ObjectStore",
    "ObjectWriter",
    "Records",
    "Recovery",
    "RejectedPoint",
    "ReadsOn",
    "RemovesUploads",
    "ReplayPosition",
    "ReplicationSource",
    "ServerFactory",
    "Session",
    "Signer",
    "SlotStatus",
    "SourceFacts",
    "StateStore",
    "StoredFacts",
    "TimelineEnd",
    "ToolOutcome",
    "WalStream",
    "WalText",
    "Workflows",
    "notes_of",
]

# Those that most need first: it is read to where the name is.
_FILES = ("storage", "control", "catalogue", "postgres")

# To a type checker it would be leave for any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in __all__:
            for file in _FILES:
                found = getattr(import_module(f"{__name__}.{file}"), name, None)
                if found is not None:
                    return globals().setdefault(name, found)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
