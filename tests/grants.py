"""Rights that are granted to every step, and needed only at times."""

from __future__ import annotations

# A step goes on from a mark; it reads the records when another wrote one meanwhile.
RECORDS_READ = frozenset(("s3:GetObject", "s3:ListBucket", "kms:Decrypt"))
