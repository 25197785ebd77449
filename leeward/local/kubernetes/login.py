"""Who may talk to the cluster: its own authority and certificate, and tokens of EKS.

A token is judged as EKS judges it: the request that it holds must be one to STS, signed for this
cluster, young enough; the signature is computed again with the account's key, since moto takes any;
then the request is really made, and STS says who it is.
Source: aws-iam-authenticator, pkg/token/token.go (verifyHost, validateDuration, X-Amz-Expires).
"""

from __future__ import annotations

import ipaddress
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import urllib3
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from urllib3.exceptions import HTTPError

PREFIX = "k8s-aws-v1."
LIVES_SECONDS = 15 * 60
LONGEST_EXPIRY_SECONDS = 15 * 60
CLUSTER_HEADER = "x-k8s-aws-id"
STS_TIMEOUT_SECONDS = 10.0


class Denied(Exception):
    """The token opens nothing. The message is for the server's log; clients hear 401 alone."""


class EksLogin:
    """Judges tokens for one cluster.

    Args:
        sts_url: the address of the AWS that tokens must name.
        secrets: secret keys by access key id, of that AWS.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        cluster: str,
        sts_url: str,
        secrets: Mapping[str, str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.cluster = cluster
        self.now = now
        self._sts, self._secrets = urlsplit(sts_url), secrets
        self._pool = urllib3.PoolManager(retries=False)
        self._known: dict[str, tuple[str, float]] = {}

    def identify(self, authorization: str) -> str:
        """The ARN of whoever signed the token of an Authorization header. Raises Denied."""
        kind, _, token = authorization.partition(" ")
        if kind != "Bearer" or not token.startswith(PREFIX):
            raise Denied("expected a bearer token of EKS")
        known, until = self._known.get(token, ("", 0.0))
        if self.now() < until:
            return known
        url, ends_at = self._check(token)
        self._known[token] = (self._ask(url), ends_at)
        return self._known[token][0]

    def _check(self, token: str) -> tuple[str, float]:
        """The request that the token holds, and when the token ends."""
        body = token.removeprefix(PREFIX)
        try:
            url = urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
        except ValueError as error:
            raise Denied("expected base64url") from error
        parts, query = urlsplit(url), dict(parse_qsl(urlsplit(url).query))
        if (parts.scheme, parts.netloc) != (self._sts.scheme, self._sts.netloc):
            raise Denied(f"expected the STS at {self._sts.netloc}, found {parts.netloc}")
        if parts.path != "/" or query.get("Action") != "GetCallerIdentity":
            raise Denied("expected a request for GetCallerIdentity")
        if CLUSTER_HEADER not in query.get("X-Amz-SignedHeaders", "").split(";"):
            raise Denied(f"expected the header {CLUSTER_HEADER} to be signed")
        ends_at = self._check_time(query)
        if self._signature(url, query) != query.get("X-Amz-Signature"):
            raise Denied(f"expected a signature for the cluster {self.cluster}, found another")
        return url, ends_at

    def _check_time(self, query: Mapping[str, str]) -> float:
        try:
            signed = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            expiry = int(query["X-Amz-Expires"])
        except (KeyError, ValueError) as error:
            raise Denied("expected X-Amz-Date and X-Amz-Expires") from error
        ends_at = signed.timestamp() + LIVES_SECONDS
        if not 0 < expiry <= LONGEST_EXPIRY_SECONDS:
            raise Denied(f"expected X-Amz-Expires of at most 900, found {expiry}")
        if self.now() > ends_at:
            raise Denied(f"the token has ended {self.now() - ends_at:.0f} s ago")
        return ends_at

    def _signature(self, url: str, query: dict[str, str]) -> str:
        identity, _, region, service, _ = query["X-Amz-Credential"].split("/")
        if identity not in self._secrets or service != "sts":
            raise Denied(f"no such access key: {identity}")
        signer = SigV4QueryAuth(Credentials(identity, self._secrets[identity]), service, region)
        rest = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
        request = AWSRequest(
            "GET", f"{url.partition('?')[0]}?{urlencode(rest)}", {CLUSTER_HEADER: self.cluster}
        )
        request.context["timestamp"] = query["X-Amz-Date"]
        text = signer.string_to_sign(request, signer.canonical_request(request))
        return str(signer.signature(text, request))

    def _ask(self, url: str) -> str:
        try:
            answer = self._pool.request(
                "GET", url, headers={CLUSTER_HEADER: self.cluster}, timeout=STS_TIMEOUT_SECONDS
            )
        except HTTPError as error:
            raise Denied(f"STS did not answer: {type(error).__name__}") from error
        found = re.search(r"<Arn>([^<]+)</Arn>", answer.data.decode())
        if answer.status != 200 or not found:
            raise Denied(f"STS answered HTTP {answer.status}")
        return found[1]


def make_certificates(folder: Path) -> tuple[str, Path]:
    """The PEM of an authority, and a file with a certificate of it for loopback and its key."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("Local Kubernetes", authority_key, None, authority_key)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate("localhost", key, authority, authority_key)
    path = folder / "server.pem"
    path.touch(mode=0o600)
    path.write_bytes(_pem(certificate) + _key_pem(key))
    return _pem(authority).decode(), path


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if issuer:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
