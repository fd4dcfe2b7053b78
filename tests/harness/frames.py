"""Frames of HTTP/2 written by hand, for clients that break its rules or keep them to the letter and mean harm (RFC 9113)."""

import socket
import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
INITIAL_WINDOW_SIZE = 4
REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 7, 8, 11


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(headers: list[tuple[str, str]]) -> bytes:
    """A header block of literals that are never indexed (RFC 7541, 6.2.3)."""
    return b"".join(b"\x10" + text(name) + text(value) for name, value in headers)


def text(value: str) -> bytes:
    raw = value.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, more = len(raw) - 127, bytearray([127])
    while rest >= 128:
        more.append(rest % 128 + 128)
        rest //= 128
    return bytes([*more, rest]) + raw



class Connection:
    """A connection to the gateway in HTTP/2, of which every byte is the test's."""

    def __init__(self, address: tuple[str, int], seconds: float, window: int | None = None) -> None:
        self.socket = socket.create_connection(address, seconds)
        pairs = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, pairs))
        self.rest = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> bool:
        """Whether the gateway still took them."""
        try:
            self.socket.sendall(b"".join(frames))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """What comes, until the connection ends: kind, flags, stream, payload."""
        while True:
            while len(self.rest) < 9 or len(self.rest) < 9 + int.from_bytes(self.rest[:3]):
                try:
                    more = self.socket.recv(65536)
                except ConnectionResetError:
                    return
                if not more:
                    return
                self.rest += more
            size = int.from_bytes(self.rest[:3])
            kind, flags, stream = self.rest[3], self.rest[4], int.from_bytes(self.rest[5:9]) & 0x7FFFFFFF
            payload, self.rest = self.rest[9 : 9 + size], self.rest[9 + size :]
            if kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            if kind == PING and not flags & ACK:
                self.send(frame(PING, ACK, 0, payload))
            yield kind, flags, stream, payload

    def end(self) -> int | None:
        """Reads until the gateway closes; the error that it named in a GOAWAY."""
        error = None
        for kind, _, _, payload in self.frames():
            if kind == GOAWAY:
                error = int.from_bytes(payload[4:8])
        return error
