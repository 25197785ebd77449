"""The second factor of what a person puts their name to."""

from __future__ import annotations

from functools import cache

from chalicelib.incidents.factors import FactorDesk, use_code
from chalicelib.plan.records import digest_of
from chalicelib.services import build, environment
from chalicelib.services.people.hearing import Event


@cache
def factor_desk() -> FactorDesk:
    from chalicelib.adapters.kms_vault import KmsVault

    vault = KmsVault(build.client("kms"), environment.factor_key())
    return FactorDesk(build.state(), vault, build.clock())


def require_code(event: Event, by: str, *about: str) -> None:
    """Use up the code of {"code", "key"}; the same request may come again with its code.

    Args:
        about: what it is used for.
    Raises:
        NotReady: code "not-enrolled".
        Refused: codes "too-many-codes", "code-used", "wrong-code".
    """
    request = digest_of([*about, by, str(event.get("key") or "")])
    use_code(by, str(event.get("code") or ""), request=request, desk=factor_desk())
