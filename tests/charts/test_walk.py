"""What `helm test` runs says why it fails: its log is all that an operator has."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.charts.flavours import CHARTS
from tests.http_server import QuietHandler, serving


class OtherPassword(QuietHandler):
    """An auth whose administrator has changed the password."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.respond(400, b'{"error": "invalid_grant", "error_description": "wrong username or password"}')


def test_a_password_that_was_changed_is_told_from_a_service_that_fails(tmp_path: Path) -> None:
    walk = shutil.copy(CHARTS / "pinhole/files/walk.py", tmp_path)
    (tmp_path / "admin-password").write_text("the first one\n")
    with serving(OtherPassword) as url:
        command = [sys.executable, walk, url, url, url, "admin"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f'POST {url}/token: 400 {{"error": "invalid_grant", "error_description": "wrong username or password"}}\n'
        "The password in the Secret does not let admin in: put the one into it that does.\n"
    )
