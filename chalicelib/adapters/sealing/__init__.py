"""Copies that leave AWS: sealed under data keys that several recipients can open."""
