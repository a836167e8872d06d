"""OPC UA certificates, servers and clients for tests."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from edgeinspect import registry
from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.plc import ProcessImage
from edgeinspect.plclinks import opcua
from tests.system.plant import free_port

skip_reason = registry.missing_reason("plclink", "opcua")
NAMESPACE = "urn:edgeinspect:machine-vision"
DAY = datetime.timedelta(days=1)
T = TypeVar("T")


@dataclass(frozen=True)
class CertificatePair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path
    uri: str


def make_certificate_pair(
    folder: Path,
    name: str,
    *,
    uri: str | None = "",
    begins: datetime.timedelta = -DAY,
    ends: datetime.timedelta = 30 * DAY,
    issuer: CertificatePair | None = None,
    authority: bool = False,
    signs: bool | None = None,
    bits: int = 2048,
) -> CertificatePair:
    """Create a certificate of `urn:test:NAME`, self-signed without an issuer.

    `signs` is key_cert_sign of its KeyUsage; None creates no KeyUsage.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    uri = f"urn:test:{name}" if uri == "" else uri
    key = rsa.generate_private_key(65537, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, by = key, subject
    if issuer is not None:
        signer = serialization.load_pem_private_key(issuer.key.read_bytes(), None)  # type: ignore[assignment]
        by = x509.load_der_x509_certificate(issuer.certificate.read_bytes()).subject
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
    )
    if uri is not None:
        names = [x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if signs is not None:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=True,
            key_encipherment=True,
            data_encipherment=True,
            key_agreement=False,
            key_cert_sign=signs,
            crl_sign=signs,
            encipher_only=False,
            decipher_only=False,
        )
        built = built.add_extension(usage, critical=True)
    made = built.sign(signer, hashes.SHA256())
    pair = CertificatePair(folder / f"{name}.der", folder / f"{name}.pem", uri or "")
    pair.certificate.write_bytes(made.public_bytes(serialization.Encoding.DER))
    pair.key.touch(0o600)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pair


@dataclass
class RunningServer:
    """An OPC UA link in this process."""

    link: opcua.OpcUaServer
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/edgeinspect"

    def client(
        self,
        pair: CertificatePair | None = None,
        user: str | None = None,
        password: str = "",
        *,
        policy: str = "Basic256Sha256",
        key: Path | None = None,
    ) -> Any:
        """Return an asyncua client that is not connected; see `connect`."""
        from asyncua import Client
        from asyncua.crypto import security_policies as policies

        client = Client(self.url, timeout=10)
        client.test_security = None
        if pair is not None:
            chosen = getattr(policies, f"SecurityPolicy{policy}")
            client.application_uri = pair.uri
            client.test_security = (chosen, str(pair.certificate), str(key or pair.key))
        if user is not None:
            client.set_user(user)
            client.set_password(password)
        return client

    def write_image(self, **changes: Any) -> None:
        """Write an image with the next revision."""
        self._revision = getattr(self, "_revision", 1) + 1
        self.link.write(ProcessImage(revision=self._revision, online=True, **changes))


@contextmanager
def serve(folder: Path, **options: Any) -> Iterator[RunningServer]:
    """Run a server with these options."""
    if skip_reason:
        pytest.skip(f"link opcua: {skip_reason}")
    port = free_port()
    link = opcua.build(opcua.Options(port=port, **options), SystemClock())
    assert isinstance(link, opcua.OpcUaServer)
    link.open()
    link.write(ProcessImage(revision=1, online=True))
    try:
        yield RunningServer(link, port, folder)
    finally:
        link.close()


async def connect(client: Any) -> Any:
    """Open channel and session; return the client."""
    if client.test_security is not None:
        policy, certificate, key = client.test_security
        await client.set_security(policy, certificate, key)
    await client.connect()
    return client


async def disconnect(client: Any) -> None:
    """Disconnect a client, also if the server has closed its connection."""
    try:
        await asyncio.wait_for(client.disconnect(), 5)
    except Exception:  # disconnected already
        pass


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function for at most 60 s."""

    async def whole() -> T:
        return await asyncio.wait_for(work(), 60)

    return asyncio.run(whole())


def input_node_id(name: str) -> Any:
    """Return the node id of an input."""
    from asyncua import ua

    return ua.NodeId(f"Inputs.{name}", 2)


async def write_raw(
    client: Any, node: Any, value: Any, attribute: int = 13, rng: Any = None
) -> str:
    """Write one value; return the name of its status code."""
    from asyncua import ua

    item = ua.WriteValue()
    item.NodeId, item.AttributeId, item.Value, item.IndexRange = node, attribute, value, rng
    params = ua.WriteParameters()
    params.NodesToWrite = [item]
    (status,) = await client.uaclient.write(params)
    return str(status.name)
