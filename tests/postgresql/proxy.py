"""What stands between an aggregator and its database: a network that can break."""

import socket
import threading
from pathlib import Path
from typing import Self

_PIECE = 1 << 16
_NAME = ".s.PGSQL.5432"


class Proxy:
    """Passes everything on to the PostgreSQL of a folder, from a socket in another one.

    `break_at` is what a client says for the connection to break, once: before the server hears it,
    or after it has answered where `answered` is set.
    """

    def __init__(self, server: Path, folder: Path) -> None:
        self._server = server / _NAME
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _NAME))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: list[socket.socket] = []
        self.break_at: bytes | None = None
        self.answered = False
        self.broken = 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._open):
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            self._open += [client, server]
            for work in (self._ask, self._answer):
                thread = threading.Thread(target=work, args=(client, server), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        while piece := _receive(client):
            if self.break_at is not None and self.break_at in piece:
                self.break_at = None
                self.broken += 1
                if self.answered:
                    # Nothing reaches the client any more; the server does what it was told.
                    client.shutdown(socket.SHUT_RDWR)
                    server.sendall(piece)
                    server.shutdown(socket.SHUT_WR)
                    return
                break
            server.sendall(piece)
        _end(client, server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        while piece := _receive(server):
            try:
                client.sendall(piece)
            except OSError:
                continue
        _end(client, server)


def _receive(one: socket.socket) -> bytes:
    try:
        return one.recv(_PIECE)
    except OSError:
        return b""


def _end(*both: socket.socket) -> None:
    for one in both:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
