"""What the work needs from the world. Adapters implement these; tests pass in-memory fakes.

Every method raises the classes of chalicelib.errors alone. Times are aware UTC.
"""

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
    KeepsUploads,
    LastingWriter,
    Listed,
    ObjectStore,
    ObjectWriter,
    ReadsOn,
    StoredFacts,
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
    "Holdings",
    "Inspector",
    "Inventory",
    "KeepsUploads",
    "LastingWriter",
    "Listed",
    "Metrics",
    "ObjectStore",
    "ObjectWriter",
    "Records",
    "Recovery",
    "RejectedPoint",
    "ReadsOn",
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
]
