"""`pinhole-run`: starts Pinhole on this machine."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.laptop.children import PORTS
from gateway.laptop.data_folder import hold_data_folder, prepare_data_folder
from gateway.laptop.errors import CannotStart
from gateway.laptop.ports import check_ports
from gateway.laptop.runner import run

LAST_FIRST_PORT = 65535 - PORTS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until Ctrl-C, a signal or the end of a child.

    The exit status is 0 where somebody asked for the end, else 1 with a sentence on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        with hold_data_folder(options.data):
            check_ports(range(options.port, options.port + PORTS + options.observability))
            folder = prepare_data_folder(options.data, os.environ)
            run(options.port, folder, os.environ, is_observed=options.observability)
    except CannotStart as error:
        sys.exit(f"pinhole: {error}")
    except KeyboardInterrupt:
        sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pinhole-run",
        description="Start Pinhole on this machine: auth, users, inference, and a gateway in front of them.",
        epilog="The services take their settings from the environment: AUTH_*, USERS_*, INFERENCE_*, GATEWAY_*, LOG_*.",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("PORT", "8000"),
        help="the gateway's; the services take the next four (variable PORT; default 8000)",
    )
    parser.add_argument(
        "--observability",
        action="store_true",
        default=os.environ.get("OBSERVABILITY", "0") not in {"", "0"},
        help="show traces and metrics on the fifth port after the gateway's (variable OBSERVABILITY=1)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("PINHOLE_DATA", ".pinhole"),
        help="folder of the databases, weights and logs (variable PINHOLE_DATA; default .pinhole)",
    )
    return parser


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() else 0
    if not 1 <= port <= LAST_FIRST_PORT:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {LAST_FIRST_PORT}, got {text!r}")
    return port
