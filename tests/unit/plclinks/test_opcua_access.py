"""A server with a certificate: whom it lets in, and what they may do."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeinspect.domain.plc import PlcOutcome, PlcResult, ProcessImage
from edgeinspect.system.user_file import Role, UserFile
from tests.opcua_harness import (
    DAY,
    CertificatePair,
    RunningServer,
    connect,
    disconnect,
    input_node_id,
    make_certificate_pair,
    run_async,
    serve,
    skip_reason,
    write_raw,
)
from tests.system.plant import wait_for

pytestmark = pytest.mark.skipif(bool(skip_reason), reason=f"link opcua: {skip_reason}")
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def secure(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningServer, dict[str, CertificatePair]]]:
    folder = tmp_path_factory.mktemp("secure")
    server = make_certificate_pair(folder, "server")
    pairs = {name: make_certificate_pair(folder, name) for name in ("plc", "scada", "stranger")}
    pairs["old"] = make_certificate_pair(folder, "old", begins=-9 * DAY, ends=-DAY)
    trusted = folder / "pki" / "trusted"
    trusted.mkdir(parents=True)
    for name in ("plc", "scada", "old"):
        shutil.copy(pairs[name].certificate, trusted)
    users = UserFile(folder / "users.json")
    users.add_or_update("press", Role.VIEWER, PASSWORD)
    users.add_or_update("panel", Role.VIEWER, PASSWORD)
    with serve(
        folder,
        certificate=str(server.certificate),
        private_key=str(server.key),
        pki=str(folder / "pki"),
        users=str(folder / "users.json"),
        write={"press": ["*"], "panel": ["FaultReset"]},
    ) as served:
        yield served, pairs


async def open_session(client: Any) -> str:
    """Open and close a session; return the error, empty if there is none."""
    try:
        await connect(client)
    except Exception as error:
        return f"{type(error).__name__} {error}"
    finally:
        await disconnect(client)
    return ""


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
def test_a_trusted_client_and_a_known_user(secure: Any, policy: str) -> None:
    served, pairs = secure

    async def work() -> None:
        from asyncua import ua

        client = await connect(served.client(pairs["plc"], "press", PASSWORD, policy=policy))
        variant = ua.Variant(7, ua.VariantType.UInt32)
        assert await write_raw(client, input_node_id("ResultsAck"), ua.DataValue(variant)) == "Good"
        await disconnect(client)

    run_async(work)
    wait_for(lambda: (commands := served.link.poll().commands) and commands.results_ack == 7)


def test_other_clients_get_no_session(secure: Any) -> None:
    served, pairs = secure
    plc = pairs["plc"]
    cases = {
        "unknown certificate": served.client(pairs["stranger"], "press", PASSWORD),
        "expired certificate": served.client(pairs["old"], "press", PASSWORD),
        "another's key": served.client(plc, "press", PASSWORD, key=pairs["scada"].key),
        "anonymous": served.client(plc),
        "wrong password": served.client(plc, "press", "wrong"),
        "no password": served.client(plc, "press", ""),
        "unknown user": served.client(plc, "joe", PASSWORD),
        "asyncua's own administrator": served.client(plc, "admin", ""),
        "no encryption": served.client(None, "press", PASSWORD),
        "no encryption, anonymous": served.client(None),
    }
    for what, client in cases.items():
        assert run_async(lambda client=client: open_session(client)), what
    rejected = {path.name for path in (served.folder / "pki" / "rejected").iterdir()}
    assert len(rejected) == 1, "only the unknown certificate is saved"


def test_discovery_is_unencrypted_and_offers_secure_endpoints_only(secure: Any) -> None:
    served, _pairs = secure

    async def work() -> None:
        from asyncua import Client, ua

        client = Client(served.url)
        endpoints = await client.connect_and_get_server_endpoints()
        assert len(endpoints) == 3
        for each in endpoints:
            assert each.SecurityMode == ua.MessageSecurityMode.SignAndEncrypt
            assert each.Server.ApplicationUri == "urn:test:server"
            (token,) = each.UserIdentityTokens
            assert token.TokenType == ua.UserTokenType.UserName
            assert token.SecurityPolicyUri == each.SecurityPolicyUri
        (server,) = await Client(served.url).connect_and_find_servers()
        assert server.ApplicationUri == "urn:test:server"

    run_async(work)


def test_a_user_writes_only_its_own_tags(secure: Any) -> None:
    served, pairs = secure

    async def work() -> None:
        from asyncua import ua

        client = await connect(served.client(pairs["scada"], "panel", PASSWORD))
        true = ua.DataValue(ua.Variant(True, ua.VariantType.Boolean))
        one = ua.DataValue(ua.Variant(1, ua.VariantType.UInt16))
        assert await write_raw(client, input_node_id("FaultReset"), true) == "Good"
        assert await write_raw(client, input_node_id("Enable"), true) == "BadUserAccessDenied"
        assert await write_raw(client, input_node_id("TriggerId"), one) == "BadUserAccessDenied"
        for name, wanted in {"FaultReset": 3, "Enable": 1}.items():
            node = client.get_node(input_node_id(name))
            level = await node.read_attribute(ua.AttributeIds.UserAccessLevel)
            assert level.Value.Value == wanted
        # A client that only reads is not the PLC: no result is delivered to it.
        await asyncio.sleep(0.1)
        assert not served.link.poll().is_connected
        await disconnect(client)

    run_async(work)


def test_clients_are_trusted_and_removed_without_a_restart(secure: Any) -> None:
    served, pairs = secure
    path = served.folder / "pki" / "trusted" / "stranger.der"

    async def work() -> None:
        client = served.client(pairs["stranger"], "press", PASSWORD)
        assert await open_session(client)
        shutil.copy(pairs["stranger"].certificate, path)
        await connect(client := served.client(pairs["stranger"], "press", PASSWORD))
        assert await client.get_namespace_array()
        path.unlink()
        for _ in range(100):
            try:
                await client.get_namespace_array()
            except Exception:  # the library has several exceptions
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("the session outlives its certificate")
        await disconnect(client)

    run_async(work)


def test_a_session_belongs_to_its_client_and_user(secure: Any) -> None:
    served, pairs = secure

    async def work() -> None:
        from asyncua import ua

        panel = await connect(served.client(pairs["scada"], "panel", PASSWORD))
        press = await connect(served.client(pairs["plc"], "press", PASSWORD))
        # The token of another session, on an own channel.
        stolen = panel.uaclient.protocol.authentication_token
        own = press.uaclient.protocol.authentication_token
        press.uaclient.protocol.authentication_token = stolen
        with pytest.raises(ua.UaError, match="BadSessionIdInvalid"):
            await press.uaclient.read(
                ua.ReadParameters(NodesToRead=[_read_value_id(input_node_id("Enable"))])
            )
        with pytest.raises(ua.UaError):
            await press.activate_session("press", PASSWORD)
        press.uaclient.protocol.authentication_token = own
        assert await press.get_namespace_array()
        # Changing the user needs that user's password; a wrong one changes nothing.
        with pytest.raises(ua.UaError, match="BadUserAccessDenied"):
            await panel.activate_session("press", "wrong password")
        true = ua.DataValue(ua.Variant(True, ua.VariantType.Boolean))
        assert await write_raw(panel, input_node_id("Enable"), true) == "BadUserAccessDenied"
        for client in (panel, press):
            await disconnect(client)

    run_async(work)


def test_a_session_continues_over_a_new_connection(secure: Any) -> None:
    """With the same certificate, user and subscriptions; the old connection is closed."""
    served, pairs = secure

    async def work() -> None:
        from asyncua import ua

        commands: list[Any] = []

        class Handler:
            def datachange_notification(self, _node: Any, value: Any, _data: Any) -> None:
                commands.append(value)

        first = await connect(served.client(pairs["plc"], "press", PASSWORD))
        subscription = await first.create_subscription(20, Handler())
        await subscription.subscribe_data_change(first.get_node(ua.NodeId("Outputs.Online", 2)))
        token = first.uaclient.protocol.authentication_token
        nonce = first._server_nonce
        for name, user, wanted in (
            ("scada", "press", "BadSecurityChecksFailed"),
            ("plc", "panel", "BadIdentityChangeNotSupported"),
            ("plc", "press", ""),
        ):
            again = served.client(pairs[name], user, PASSWORD)
            policy, certificate, key = again.test_security
            await again.set_security(policy, certificate, key)
            await again.connect_socket()
            await again.send_hello()
            await again.open_secure_channel()
            again.uaclient.protocol.authentication_token = token
            again._server_nonce = nonce
            again._policy_ids = first._policy_ids
            if wanted:
                with pytest.raises(ua.UaError, match=wanted):
                    await again.activate_session(user, PASSWORD)
                again.disconnect_socket()
                continue
            await again.activate_session(user, PASSWORD)
            value = await again.get_node(ua.NodeId("Outputs.Online", 2)).read_value()
            assert value is True
            moved = await again.uaclient.transfer_subscriptions(
                ua.TransferSubscriptionsParameters([subscription.subscription_id], True)
            )
            assert moved[0].StatusCode.is_good()
            again.disconnect_socket()
        await disconnect(first)

    run_async(work)


@pytest.mark.slow
def test_a_channel_is_renewed(secure: Any) -> None:
    served, pairs = secure

    async def work() -> None:
        client = served.client(pairs["plc"], "press", PASSWORD)
        client.secure_channel_timeout = 3_000
        await connect(client)
        for _ in range(60):
            assert await client.get_namespace_array()
            await asyncio.sleep(0.1)
        await disconnect(client)

    run_async(work)


def test_the_application_uri_must_be_in_the_certificate(secure: Any) -> None:
    served, pairs = secure

    async def work() -> None:
        client = served.client(pairs["plc"], "press", PASSWORD)
        client.application_uri = "urn:test:another-client"
        client.application_uri_pinned = True
        policy, certificate, key = client.test_security
        await client.set_security(policy, certificate, key)
        client.application_uri = "urn:test:another-client"
        with pytest.raises(Exception, match="BadCertificateUriInvalid"):
            await client.connect()
        await disconnect(client)

    run_async(work)


def test_a_password_must_be_encrypted_as_the_policy_requires(secure: Any) -> None:
    """Replayed, unencrypted, or with the insecure padding: none of them is accepted."""
    served, pairs = secure

    async def work() -> None:
        from asyncua import ua
        from asyncua.crypto import uacrypto

        client = await connect(served.client(pairs["plc"], "press", PASSWORD))
        key = uacrypto.x509_from_der(client.security_policy.peer_certificate).public_key()
        secret = PASSWORD.encode() + bytes(32)
        packed = len(secret).to_bytes(4, "little") + secret
        oaep = "http://www.w3.org/2001/04/xmlenc#rsa-oaep"
        for algorithm, data in (
            (None, PASSWORD.encode()),
            ("http://www.w3.org/2001/04/xmlenc#rsa-1_5", uacrypto.encrypt_rsa15(key, packed)),
            (oaep, uacrypto.encrypt_rsa_oaep(key, packed)),  # another session's nonce
            (oaep, b""),
            (oaep, bytes(256)),
        ):
            params = ua.ActivateSessionParameters()
            challenge = client.security_policy.peer_certificate + client._server_nonce
            params.ClientSignature.Algorithm = client.security_policy.AsymmetricSignatureURI
            params.ClientSignature.Signature = (
                client.security_policy.asymmetric_cryptography.signature(challenge)
            )
            params.UserIdentityToken = ua.UserNameIdentityToken()
            params.UserIdentityToken.PolicyId = "username"
            params.UserIdentityToken.UserName = "press"
            params.UserIdentityToken.Password = data
            params.UserIdentityToken.EncryptionAlgorithm = algorithm
            with pytest.raises(ua.UaError, match="BadUserAccessDenied"):
                await client.uaclient.activate_session(params)
        await disconnect(client)

    run_async(work)


def test_anonymous_must_be_configured(tmp_path: Path) -> None:
    server, plc = make_certificate_pair(tmp_path, "server"), make_certificate_pair(tmp_path, "plc")
    trusted = tmp_path / "pki" / "trusted"
    trusted.mkdir(parents=True)
    shutil.copy(plc.certificate, trusted)
    with serve(
        tmp_path,
        certificate=str(server.certificate),
        private_key=str(server.key),
        pki=str(tmp_path / "pki"),
        anonymous=True,
        write={"anonymous": ["ResultsAck"]},
    ) as served:

        async def work() -> None:
            client = await connect(served.client(plc))
            await asyncio.to_thread(wait_for, lambda: served.link.poll().is_connected)
            await disconnect(client)
            assert await open_session(served.client(None))

        run_async(work)


def _read_value_id(node: Any) -> Any:
    from asyncua import ua

    return ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value)


def test_a_result_is_not_visible_before_a_plc_connects(secure: Any) -> None:
    """A result of before the connection could be read before the server's loop runs."""
    served, pairs = secure
    result = PlcResult(8, 1, PlcOutcome.PASS, 1)
    shown = ProcessImage(revision=1 << 30, online=True, result=result, last_id=7, results_total=7)

    async def work() -> None:
        client = await connect(served.client(pairs["scada"], "panel", PASSWORD))

        async def output(name: str) -> Any:
            return await client.get_node(f"ns=2;s=Outputs.{name}").read_value()

        served.link.write(shown)
        for _ in range(3_000):
            if await output("ResultsTotal") == 7:
                break
            await asyncio.sleep(0.01)
        values = [await output(name) for name in ("ResultsTotal", "Online", "ResultsValid", "Pass")]
        assert values == [7, True, False, False]
        assert (await output("ResultId"), await output("ResultIdCheck")) == (7, 0)
        assert served.link.poll().delivered_revision == -1
        await disconnect(client)
        plc = await connect(served.client(pairs["plc"], "press", PASSWORD))
        for _ in range(3_000):
            if served.link.poll().delivered_revision == shown.revision:
                break
            await asyncio.sleep(0.01)
        assert await plc.get_node("ns=2;s=Outputs.Pass").read_value()
        await disconnect(plc)

    try:
        run_async(work)
    finally:
        served.link.write(ProcessImage(revision=(1 << 30) + 1))
