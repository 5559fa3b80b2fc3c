"""What becomes of warnings of torch: settled for good, since the filters are the same for all threads of a process.

`warnings.catch_warnings` would take them back, and those with them that another thread has come to rely on.
"""

import re
import warnings
from typing import Literal


def settle_warning(action: Literal["ignore", "error"], category: type[Warning], message: str = "") -> None:
    """Ignore warnings that begin with `message`, or let them be errors. Once is as good as more often."""
    pattern = re.compile(message, re.IGNORECASE) if message else None  # as the module itself has it
    if (action, pattern, category, None, 0) not in warnings.filters:
        warnings.filterwarnings(action, message, category)
