"""Take base backups and WAL from a running server into an object store."""
