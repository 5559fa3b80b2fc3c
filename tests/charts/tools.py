"""Where the programs are that check the charts."""

import shutil
from pathlib import Path

OWN = Path(__file__).parents[2] / "build" / "tools"


def find_tool(name: str) -> str:
    """Return the path of a program: that of the user, or one that `make requisites` has built.

    Raises:
        FileNotFoundError: it is neither; the tests that need it fail, they are not skipped.
    """
    found = shutil.which(name) or shutil.which(name, path=str(OWN))
    if found is None:
        raise FileNotFoundError(f"{name} is missing: run `make requisites`")
    return found
