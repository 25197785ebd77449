"""KMS: multi-Region keys open what they and their replicas have wrapped.

moto writes the id of a key into 36 bytes of the ciphertext; "mrk-..." has 40, so that no
multi-Region key ever finds its own ciphertext again. And it makes an RSA key, 40 ms each, for a
symmetric key too, which signs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from moto.kms import models, utils

from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

ID_BYTES = 40
SYMMETRIC = "SYMMETRIC_DEFAULT"


@contextmanager
def install(_cloud: LocalCloud) -> Iterator[None]:
    def without_padding(original: Any) -> Any:
        def deserialize(ciphertext_blob: bytes) -> utils.Ciphertext:
            found = original(ciphertext_blob)
            return found._replace(key_id=found.key_id.rstrip("\0"))

        return deserialize

    def for_signing_alone(original: Any) -> Any:
        return lambda spec: None if spec == SYMMETRIC else original(spec)

    format_ = f">{ID_BYTES}s{utils.IV_LEN}s{utils.TAG_LEN}s"
    with ExitStack() as stack:
        for name, make in (
            ("HEADER_LEN", lambda _: ID_BYTES + utils.IV_LEN + utils.TAG_LEN),
            ("CIPHERTEXT_HEADER_FORMAT", lambda _: format_),
            ("_deserialize_ciphertext_blob", without_padding),
        ):
            stack.enter_context(replaced(utils, name, make))
        stack.enter_context(replaced(models, "generate_private_key", for_signing_alone))
        yield
