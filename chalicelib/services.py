"""Builds adapters and use cases, each once and when first used; the only reader of the environment.

Nothing here is imported, opened or read before a Lambda is invoked.
"""

from __future__ import annotations

from typing import Any

Event = dict[str, Any]
