"""A minimal RTSP 1.0 server over TCP with MPEG-TS in RTP (RFC 2326, RFC 2250).

Clients can connect and play; the server can stall and drop them.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path

import cv2
import numpy as np

RATE_HZ = 25
_CHUNK = 7 * 188  # whole transport packets in one RTP packet
_SDP = """\
v=0\r
o=- 0 0 IN IP4 127.0.0.1\r
s=t\r
t=0 0\r
m=video 0 RTP/AVP 33\r
a=control:track1\r
"""


def write_stream(path: Path, seconds: int) -> None:
    """Write a grey ramp as an MPEG transport stream."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mpg2"), RATE_HZ, (64, 48)
    )
    assert writer.isOpened()
    for index in range(seconds * RATE_HZ):
        writer.write(np.full((48, 64, 3), 40 + index % 100, np.uint8))
    writer.release()


class RtspServer:
    """Plays one stream to every client at its frame rate. `stop` drops all clients."""

    def __init__(self, stream: Path, seconds: int, port: int = 0) -> None:
        self._data = stream.read_bytes()
        self._bytes_per_s = len(self._data) / seconds
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"rtsp://anna:secret@127.0.0.1:{self.port}/top"
        self.is_silent = threading.Event()
        """If set, it sends nothing and keeps the connections."""
        self._peers: list[socket.socket] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        """Close all connections and wait for the threads."""
        self._stop.set()
        for one in (self._socket, *self._peers):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                peer, _address = self._socket.accept()
            except OSError:
                return
            self._peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer.makefile("rb") as lines:
                while self._answer(peer, lines.readline().decode(), lines):
                    pass
        except OSError:
            pass

    def _answer(self, peer: socket.socket, request: str, lines: object) -> bool:
        method = request.partition(" ")[0]
        headers = {}
        while line := lines.readline().decode().strip():  # type: ignore[attr-defined]
            key, _, value = line.partition(":")
            headers[key.lower()] = value.strip()
        extra, body = "", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            extra, body = "Content-Type: application/sdp\r\n", _SDP
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        elif method == "PLAY":
            extra = "Session: 1\r\n"
        elif not method:
            return False
        head = f"RTSP/1.0 200 OK\r\nCSeq: {headers.get('cseq', 0)}\r\n{extra}"
        peer.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        if method == "PLAY":
            thread = threading.Thread(target=self._play, args=(peer,))
            self._threads.append(thread)
            thread.start()
        return method != "TEARDOWN"

    def _play(self, peer: socket.socket) -> None:
        began = time.monotonic()
        for number, at in enumerate(range(0, len(self._data), _CHUNK)):
            due = began + at / self._bytes_per_s
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            if self.is_silent.is_set():
                continue
            part = self._data[at : at + _CHUNK]
            stamp = int(90_000 * at / self._bytes_per_s)
            rtp = struct.pack("!BBHII", 0x80, 33, number & 0xFFFF, stamp & 0xFFFFFFFF, 7) + part
            try:
                peer.sendall(struct.pack("!cBH", b"$", 0, len(rtp)) + rtp)
            except OSError:
                return
