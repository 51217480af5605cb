"""Small pictures, painted instead of kept in the repository."""

import struct
import zlib

WIDTH, HEIGHT = 320, 200


def png(upper: str, lower: str) -> bytes:
    """A PNG of 320 × 200 pixels that fades from one colour (`#rrggbb`) to another."""
    start, end = (bytes.fromhex(colour.removeprefix("#")) for colour in (upper, lower))
    rows = bytearray()
    for y in range(HEIGHT):
        pixel = bytes((a * (HEIGHT - 1 - y) + b * y) // (HEIGHT - 1) for a, b in zip(start, end, strict=True))
        rows += b"\x00" + pixel * WIDTH  # each row begins with its filter: none
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(bytes(rows))), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
