"""The barriers of AWS: buckets, identities, networks; see ports/isolation.py."""
