"""PostgreSQL: sources, throw-away servers, the files and programs of a version."""
