"""`python -m benchmarks.webhooks.receiver`: a receiver that costs next to nothing, so that the sender is measured.

Prints its port. Answers every request with 200 over kept connections, and those to /hang never.
"""

import asyncio

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LENGTH = b"\r\ncontent-length: "


class Receiver(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower() + b"\r\n"
            start = head.index(_LENGTH) + len(_LENGTH)
            whole = end + 4 + int(head[start : head.index(b"\r\n", start)])
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            if not head.startswith(b"post /hang"):
                self._transport.write(_ANSWER)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
