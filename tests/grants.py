"""Rights that are granted to every function of a step, and that some need only at times."""

from __future__ import annotations

# A step goes on from a mark: where its function reads nothing else of S3, it needs these when
# another wrote a record meanwhile.
RECORDS_READ = frozenset(("s3:GetObject", "s3:ListBucket", "kms:Decrypt"))
