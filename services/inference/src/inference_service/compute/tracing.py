"""Tracing the graph of a network with torch.fx, so that threads which compute meanwhile do not notice.

torch.fx replaces the call of every module while it traces, also for those other threads; their modules are
not in the network that is traced, which to it is an error.
"""

import threading
from collections.abc import Callable
from typing import Any

from torch import fx, nn

tracing_lock = threading.Lock()
"""Held while torch has its replacements in place: two who put back what was there before would leave one of them."""


class OneThreadTracer(fx.Tracer):
    """Traces what its own thread calls."""

    def trace(self, root: nn.Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Return the graph; others who trace wait."""
        with tracing_lock:
            self._thread = threading.get_ident()
            return super().trace(root, concrete_args)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a module of another thread as if nothing were traced."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return an attribute of a module of another thread as it is."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)
