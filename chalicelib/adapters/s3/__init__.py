"""S3: the store of copies, users' buckets, their rules and versions."""
