"""`python -m gateway.laptop.server auth_service.main 8001`: one server process, with the settings of its service."""

import argparse
import sys
from importlib import import_module

from servicekit.http_protocol import ServiceProtocol
from servicekit.server import EndingServer
from uvicorn import Config

STOP_SECONDS = 3
"""How long requests may go on after the end was asked for; honcho kills what is left after 5 s."""

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays: longer than clients keep it, or they send requests into closed ones."""

_FAILED = 3
"""The exit status of a process that has never served, as uvicorn has it."""


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(prog="python -m gateway.laptop.server", description=main.__doc__)
    parser.add_argument("module", help="has `create_app`")
    parser.add_argument("port", type=int)
    parser.add_argument("--no-proxy-headers", action="store_true", help="believe nothing that callers say of others")
    options = parser.parse_args()
    config = Config(
        import_module(options.module).create_app(),
        host="127.0.0.1",
        port=options.port,
        http=ServiceProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=not options.no_proxy_headers,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = EndingServer(config, ends_within_seconds=STOP_SECONDS)
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        sys.exit(_FAILED)


if __name__ == "__main__":
    main()
