"""A load balancer as a site has one: every connection goes to a server that takes it."""

import itertools
import socket
import threading
from collections.abc import Sequence
from typing import Self

_PIECE = 1 << 16


class Balancer:
    """Passes connections on to one of `ports` of this machine, each in its turn.

    One that does not answer is left out; where none does, the connection is closed.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._turns = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(5)
        _end(*self._open)
        for thread in self._threads:
            thread.join(5)
        for one in (self._listener, *self._open):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            server = self._choose()
            if server is None:
                _end(client)
                continue
            self._open.append(server)
            for pair in ((client, server), (server, client)):
                thread = threading.Thread(target=_pass_on, args=pair, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _choose(self) -> socket.socket | None:
        first = next(self._turns)
        for number in range(len(self._ports)):
            port = self._ports[(first + number) % len(self._ports)]
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=5)
            except OSError:
                continue
        return None


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    try:
        while piece := one.recv(_PIECE):
            other.sendall(piece)
    except OSError:
        pass
    _end(one, other)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
