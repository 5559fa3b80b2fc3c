"""The service as a process: `python -m inference_service --port 8000`."""

import argparse
import signal

import uvicorn

from inference_service.main import create_app


def main() -> None:
    """Serve until SIGTERM or SIGINT; then take no more, finish what was begun, and exit with 0."""
    parser = argparse.ArgumentParser(prog="python -m inference_service", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    # uvicorn raises the signal again when all is done, which would end the process with an error.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.run(
        create_app,
        factory=True,
        host=arguments.host,
        port=arguments.port,
        access_log=False,
        server_header=False,
        log_config=None,
    )


if __name__ == "__main__":
    main()
