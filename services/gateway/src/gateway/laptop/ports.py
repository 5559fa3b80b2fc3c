"""Finds a port that is taken before anything is started."""

import errno
import socket
from collections.abc import Iterable

from gateway.laptop.errors import CannotStart


def check_ports(ports: Iterable[int]) -> None:
    """Raise CannotStart for the first port of `ports` on which this machine cannot listen."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
                raise CannotStart(
                    f"port {port} {reason}; free it, or choose five others with --port (as in PORT=9000 make run)"
                ) from None
