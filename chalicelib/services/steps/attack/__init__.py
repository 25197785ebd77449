"""The steps against an attack: isolate, find its start, keep the evidence, close the hole."""
