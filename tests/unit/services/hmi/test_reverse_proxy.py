"""Trusted reverse proxies and their headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import ConfigError
from edgeinspect.services.hmi.config import load_hmi_config
from edgeinspect.services.hmi.http.client_address import client_key, parse_address, parse_networks
from edgeinspect.services.hmi.http.reverse_proxy import (
    PREFIX_PATTERN,
    OriginalRequest,
    TrustedProxies,
    is_same_origin,
)
from edgeinspect.services.hmi.service import HmiService
from edgeinspect.system.user_file import Role, UserFile
from tests.unit.services.hmi.builders import ReceivedResponse, http_request, write_hmi_config

GOOD = "four unlike words"
NAME = "line-7.plant.example"
PROXIES = TrustedProxies(parse_networks(["127.0.0.1", "10.0.0.0/24", "fd00::/8"]), "/line7")


def read(
    peer: str, path: str = "/", scheme: str = "http", **headers: str | list[str]
) -> OriginalRequest:
    sent = []
    for key, values in {"host": "127.0.0.1:8480", **headers}.items():
        for value in values if isinstance(values, list) else [values]:
            sent.append((key.replace("_", "-").encode(), value.encode("latin-1")))
    return PROXIES.resolve(
        {"type": "http", "client": (peer, 5), "path": path, "scheme": scheme, "headers": sent}
    )


def test_ignores_headers_of_untrusted_peers() -> None:
    original = read(
        "192.0.2.9",
        x_forwarded_for="1.2.3.4",
        x_forwarded_proto="https",
        x_forwarded_host=NAME,
        x_forwarded_prefix="/evil",
    )
    assert original == OriginalRequest(
        "192.0.2.9", "http", False, "127.0.0.1:8480", True, "", False
    )


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, 10.0.0.9", "198.51.100.7"),
        ("198.51.100.7:4711", "198.51.100.7"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ("2001:db8::1, fd00::5", "2001:db8::1"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("", "127.0.0.1"),
        ("unknown", "127.0.0.1"),
        ("198.51.100.7, <script>", "127.0.0.1"),
        ("198.51.100.7, garbage, 10.0.0.9", "10.0.0.9"),
        (",,,,", "127.0.0.1"),
        (", ".join(["6.6.6.6"] * 1_000) + ", 198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, " + ", ".join(["10.0.0.9"] * 1_000), "10.0.0.9"),
        ("9" * 5_000, "127.0.0.1"),
    ],
)
def test_client_is_the_rightmost_untrusted_address(forwarded: str, client: str) -> None:
    assert read("127.0.0.1", x_forwarded_for=forwarded).client == client


def test_repeated_header_is_one_list() -> None:
    assert read("127.0.0.1", x_forwarded_for=["6.6.6.6", "198.51.100.7"]).client == "198.51.100.7"


@pytest.mark.parametrize(
    "prefix",
    [
        "//evil",
        "//evil.example/x",
        "/../",
        "/a/../b",
        "/.",
        "/a//b",
        "/%2e%2e",
        "/a b",
        "line7",
        "/a\u00e9",
        "/a\\b",
        "https://evil",
        "/" + "x" * 1_000,
        "/a;b",
        "/a?b",
        '/a"',
    ],
)
def test_ignores_an_invalid_prefix(prefix: str) -> None:
    assert read("127.0.0.1", x_forwarded_prefix=prefix).prefix == "/line7"
    assert PREFIX_PATTERN.fullmatch(prefix.rstrip("/")) is None


def test_reads_host_scheme_and_prefix_of_a_proxy() -> None:
    original = read(
        "127.0.0.1", x_forwarded_host=NAME, x_forwarded_proto="https", x_forwarded_prefix="/line8/"
    )
    forwarded = (original.host, original.scheme, original.prefix, original.is_scheme_known)
    assert forwarded == (NAME, "https", "/line8", True)
    assert read("127.0.0.1", x_forwarded_proto="javascript").scheme == "http"
    for bad in ("evil\r\nSet-Cookie: a=b", "a b", "<x>", "a" * 300, "a:b", "x/y", "user@host"):
        assert read("127.0.0.1", x_forwarded_host=bad).host == ""


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "x_forwarded_for",
                "x_forwarded_proto",
                "x_forwarded_host",
                "host",
                "x_forwarded_prefix",
                "x_forwarded_port",
            ]
        ),
        st.text(st.characters(max_codepoint=255), max_size=300),
    )
)
def test_validates_every_forwarded_header(headers: dict[str, str]) -> None:
    original = read("127.0.0.1", **headers)
    assert parse_address(original.client) is not None
    assert original.scheme in ("http", "https")
    assert original.prefix == "" or PREFIX_PATTERN.fullmatch(original.prefix)
    assert set(original.host) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]"
    )


@pytest.mark.parametrize(
    ("origin", "original", "same"),
    [
        ("http://line-7", OriginalRequest("", "http", False, "line-7", True, "", False), True),
        ("https://line-7", OriginalRequest("", "http", False, "line-7", True, "", False), True),
        (
            "http://line-7:8480",
            OriginalRequest("", "http", False, "line-7:8480", True, "", False),
            True,
        ),
        ("http://LINE-7", OriginalRequest("", "http", False, "line-7:80", True, "", False), True),
        (
            "http://line-7:8481",
            OriginalRequest("", "http", False, "line-7:8480", True, "", False),
            False,
        ),
        (
            "http://line-7:8583",
            OriginalRequest("", "http", False, "line-7", True, "", False),
            False,
        ),
        ("http://line-7:8583", OriginalRequest("", "http", True, "line-7", False, "", True), True),
        ("https://line-7", OriginalRequest("", "https", True, "line-7:443", True, "", True), True),
        ("http://line-7", OriginalRequest("", "https", True, "line-7", True, "", True), False),
        ("https://[::1]:5", OriginalRequest("", "https", True, "[::1]:5", True, "", True), True),
        ("null", OriginalRequest("", "http", False, "null", True, "", False), False),
        ("http://evil", OriginalRequest("", "http", False, "", True, "", False), False),
        ("file://line-7", OriginalRequest("", "http", False, "line-7", True, "", False), False),
        (
            "http://line-7.evil",
            OriginalRequest("", "http", False, "line-7", True, "", False),
            False,
        ),
    ],
)
def test_origin_is_compared_with_the_original_request(
    origin: str, original: OriginalRequest, same: bool
) -> None:
    assert is_same_origin(origin, original) is same


def test_client_key() -> None:
    assert client_key("10.0.0.7") == client_key("::ffff:10.0.0.7")
    assert client_key("2001:db8::1") == client_key("2001:db8::2") != client_key("2001:db8:0:1::1")


@pytest.mark.parametrize(
    "keys",
    [
        {"proxies": ["10.0.0.0/99"]},
        {"proxies": ["proxy.example"]},
        {"proxies": ["10.0.0.1/8"]},
        {"prefix": "//evil"},
        {"prefix": "/../x"},
        {"prefix": "/api/"},
        {"prefix": "line7"},
    ],
)
def test_lists_faults_of_proxy_settings(tmp_path: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(keys))):
        load_hmi_config(write_hmi_config(tmp_path, **keys))


# -- the whole page behind one -------------------------------------------------------------------


@pytest.fixture
def hmi_service(tmp_path: Path) -> HmiService:
    users = UserFile(tmp_path / "users.json")
    users.add_or_update("anna", Role.OPERATOR, GOOD)
    keys = {"users": str(tmp_path / "users.json"), "hosts": [NAME], "prefix": "/line7/"}
    return HmiService(
        load_hmi_config(write_hmi_config(tmp_path, proxies=["192.0.2.1"], **keys)), ManualClock()
    )


def login(
    hmi_service: HmiService, path: str = "/api/login", word: str = GOOD, **headers: str
) -> ReceivedResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = b'{"name":"anna","password":"%s"}' % word.encode()
    sent |= {"content-type": "application/json"}
    return http_request(hmi_service.app, path, method="POST", headers=sent, body=body)


def test_tls_at_the_proxy_sets_secure_cookies_below_the_prefix(
    hmi_service: HmiService,
) -> None:
    forwarded = {"host": NAME, "x_forwarded_proto": "https", "origin": f"https://{NAME}"}
    resolved = login(hmi_service, **forwarded, x_forwarded_for="198.51.100.7")
    assert resolved.status == 200, resolved.body
    session = next(each for each in resolved.cookies if "session" in each)
    assert "Secure" in session
    assert "Path=/line7/" in session
    assert "strict-transport-security" in resolved.headers
    assert login(hmi_service, **{**forwarded, "origin": f"http://{NAME}"}).status == 403
    plain = login(hmi_service, host="localhost")
    assert "Secure" not in plain.cookies[0]
    assert "Path=/;" in plain.cookies[-1], "asked directly it is at the root"


def test_serves_paths_with_and_without_the_prefix(hmi_service: HmiService) -> None:
    for path in ("/", "/static/app.js", "/api/engines", "/metrics"):
        assert http_request(hmi_service.app, path).status == 200
        assert http_request(hmi_service.app, f"/line7{path}").status == 200
    resolved = http_request(hmi_service.app, "/line7")
    assert (resolved.status, resolved.headers["location"]) == (308, "/line7/")
    assert http_request(hmi_service.app, "/line8/").status == 404
    assert http_request(hmi_service.app, "/line7/line7/").status == 404


def test_host_of_the_proxy_is_not_reflected(hmi_service: HmiService) -> None:
    forwarded = {"x-forwarded-host": NAME, "x-forwarded-proto": "https"}
    for host in ("evil.example", "[", "a b", "x:y:z"):
        for path in ("/", "/api/state/", "/line7", "/static", "/none/"):
            resolved = http_request(hmi_service.app, path, headers={**forwarded, "host": host})
            assert resolved.status in (200, 308, 404)
            assert host not in resolved.headers.get("location", "/")
        assert (
            login(
                hmi_service, **{k.replace("-", "_"): v for k, v in forwarded.items()}, host=host
            ).status
            == 200
        )


def test_links_are_relative() -> None:
    from edgeinspect.services.hmi.read_routes import STATIC

    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        for word in ('"/static', '"/api', '"/stream', "`/api", "`/picture", "`/thumb", "`/mask"):
            assert word not in text, f"{path.name}: {word}"


def test_rewritten_host_is_refused_with_a_remedy(hmi_service: HmiService) -> None:
    resolved = login(hmi_service, host="127.0.0.1:8480", origin=f"https://{NAME}")
    assert resolved.status == 403
    for word in (b"127.0.0.1:8480", b"proxy_set_header Host", b"proxies", b"docs/howto/hmi.md"):
        assert word in resolved.body


def test_failed_logins_count_for_the_browser_address(hmi_service: HmiService) -> None:
    for last in range(1, 6):
        assert login(hmi_service, word="wrong", x_forwarded_for=f"198.51.100.{last}").status == 401
    assert login(hmi_service, x_forwarded_for="198.51.100.9").status == 200
    here = [
        login(hmi_service, word="wrong", x_forwarded_for="198.51.100.1").status for _ in range(5)
    ]
    assert here == [401] * 4 + [429]
