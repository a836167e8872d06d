"""The HMI behind a real nginx, configured as in docs/howto/hmi.md."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import needs

needs.library("openvino")
needs.library("starlette")
NGINX = needs.program("nginx")

from tests.system.hmi_harness import PASSWORD, HmiHarness
from tests.system.plant import free_port, wait_for

pytestmark = [
    pytest.mark.timeout(180),
]
SERVERS = [("whole", ""), ("below", "/line7"), ("kept", "/line7")]
NAME = "line-7.plant.example"
CONFIG = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/n1; proxy_temp_path {folder}/n2; fastcgi_temp_path {folder}/n3;
  uwsgi_temp_path {folder}/n4; scgi_temp_path {folder}/n5;
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_http_version 1.1; proxy_set_header Connection "";
  server {{ listen 127.0.0.1:{whole}; location / {{ proxy_pass http://127.0.0.1:{page}; }} }}
  server {{
    listen 127.0.0.1:{below};
    location /line7/ {{ proxy_pass http://127.0.0.1:{page}/; }}
  }}
  server {{
    listen 127.0.0.1:{kept};
    location /line7/ {{ proxy_pass http://127.0.0.1:{page}; }}
  }}
  server {{
    listen 127.0.0.1:{bare};
    location / {{ proxy_pass http://127.0.0.1:{page}; proxy_set_header Host $proxy_host; }}
  }}
}}
"""


class NginxFront:
    """An HMI with nginx in front."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.rig = HmiHarness(folder, hosts=[NAME], proxies=["127.0.0.1"], prefix="/line7/")
        self.whole, self.below, self.kept, self.bare = (free_port() for _ in range(4))
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, page=self.rig.port, **vars(self)))
        command = [NGINX, "-e", str(folder / "nginx.err"), "-c", str(config)]
        self.nginx = subprocess.Popen(command)
        wait_for(lambda: self.is_up(), 20, "nginx")

    def is_up(self) -> bool:
        try:
            return self.request(self.whole, "/api/state")[0] in (200, 503)
        except OSError:
            return False

    def request(
        self, port: int, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, list[str]], bytes]:
        sent = {"Host": f"{NAME}:{port}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            sent |= {"Content-Type": "application/json", "Origin": f"http://{NAME}:{port}"}
        # Not the proxy's own address, which is trusted.
        connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=20, source_address=("127.0.0.9", 0)
        )
        with closing(connection):
            connection.request("GET" if data is None else "POST", path, data, sent)
            got = connection.getresponse()
            told: dict[str, list[str]] = {}
            for key, value in got.getheaders():
                told.setdefault(key.lower(), []).append(value)
            body_read = got.read(300) if path.endswith("stream") else got.read()
            return got.status, told, body_read

    def close(self) -> None:
        self.nginx.terminate()
        self.nginx.wait(20)
        self.rig.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxFront]:
    made = NginxFront(tmp_path_factory.mktemp("front") / "rig")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(("server", "prefix"), SERVERS)
def test_serves_the_hmi_behind_nginx(front: NginxFront, server: str, prefix: str) -> None:
    port: int = getattr(front, server)
    index = front.request(port, f"{prefix}/")[2].decode()
    links = [part.partition('"')[0] for part in index.split('="')[1:] if part.startswith("static")]
    assert len(links) == 3
    for link in (*links, "static/dom.js", "api/engines", "metrics", "api/session"):
        assert front.request(port, f"{prefix}/{link}")[0] == 200, link
    status, headers, begin = front.request(port, f"{prefix}/stream")
    assert (status, begin[:6]) == (200, b"retry:")
    assert headers["content-type"][0].startswith("text/event-stream")


@pytest.mark.parametrize(("server", "prefix"), SERVERS)
def test_login_and_action_behind_nginx(front: NginxFront, server: str, prefix: str) -> None:
    port: int = getattr(front, server)
    request_body = {"name": "anna", "password": PASSWORD}
    status, headers, body = front.request(port, f"{prefix}/api/login", request_body)
    assert status == 200, body
    (cookie,) = (each for each in headers["set-cookie"] if "session" in each)
    assert "Path=/line7/;" in cookie
    own = {"Cookie": cookie.partition(";")[0], "X_CSRF_Token": json.loads(body)["csrf"]}
    request_body = {"picture": "scratches.png"}
    assert front.request(port, f"{prefix}/api/challenge", request_body, **own)[0] == 200
    assert front.request(port, f"{prefix}/api/logout", {}, **own)[0] == 200


def test_rewritten_host_is_reported(front: NginxFront) -> None:
    status, _headers, body = front.request(front.bare, "/api/login", {"name": "a", "password": "b"})
    assert status == 403
    assert b"proxy_set_header Host" in body


def test_wrong_passwords_lock_out_only_their_browser(front: NginxFront) -> None:
    """A forwarded header from the browser is ignored: nginx appends the real address."""
    wrong = {"name": "otto", "password": "wrong one here"}
    match = [
        front.request(front.whole, "/api/login", wrong, X_Forwarded_For=f"10.9.9.{i}")[0]
        for i in range(7)
    ]
    assert match == [401] * 5 + [429] * 2
    assert front.rig.request("/api/login", {"name": "anna", "password": PASSWORD}).status == 200
