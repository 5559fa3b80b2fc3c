"""A network that is computed without its Python: recorded once with torch.jit, as what its operators are.

Python calls a hundred operators a batch, and before each it waits for its lock, which whatever serves the requests may
have. On two cores, ResNet-50, batches of 8, beside a thread that is busy for a fifth of the time: 37 pictures a second
in bfloat16, and 40 without its Python; a lone picture in 8 bits takes 18 ms, not 23. torch has declared torch.jit
deprecated in favour of its compilers: where those can be had, the compiled modes are as fast or faster.
"""

from collections.abc import Callable

import torch
from servicekit.logs import get_logger
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from inference_service.compute.torch_warnings import settle_warning
from inference_service.compute.tracing import tracing_lock
from inference_service.weights import first_line

_TRACED_ROWS = 2
_CHECKED_ROWS = (1, 3)
"""What depends on the size of the batch in a way that was not recorded shows in others."""

log = get_logger(__name__)


class TracedNetwork(nn.Module):
    """Computes `network`, which is recorded at the first batch; to the bit what it computes itself.

    A network that cannot be recorded, or decides something by the values that it is given, is computed as it is: so
    with `may_decide` false. With true that is taken to be the same for all pictures.
    """

    def __init__(self, network: nn.Module, *, may_decide: bool = False) -> None:
        super().__init__()
        self.network = network
        self._may_decide = may_decide
        settle_warning("error", TracerWarning)  # nobody else uses torch.jit
        settle_warning("ignore", FutureWarning, "`torch.jit.trace")
        # A function and no module, which would hold the weights a second time.
        self._compute: Callable[[Tensor], Tensor] | None = None
        self.register_load_state_dict_post_hook(lambda *_: self._forget())  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, [N, classes], of inputs [N, 3, H, W] with the channels last."""
        if self._compute is None:
            with tracing_lock:
                self._compute = self._traced(images)
        return self._compute(images)

    def _forget(self) -> None:
        """Record anew: other tensors are its weights now."""
        self._compute = None

    def _traced(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what computes the network for inputs that are like these."""
        examples = {
            rows: torch.rand(rows, *images.shape[1:]).to(images.dtype, memory_format=torch.channels_last)
            for rows in (_TRACED_ROWS, *_CHECKED_ROWS)
        }
        compute: Callable[[Tensor], Tensor] = self.network.__call__
        try:
            torch._C._jit_set_tracer_state_warn(not self._may_decide)  # type: ignore[attr-defined]
            with torch.inference_mode():
                traced = torch.jit.trace(self.network, examples[_TRACED_ROWS], check_trace=False)  # type: ignore[no-untyped-call]
                if all(torch.equal(traced(examples[rows]), compute(examples[rows])) for rows in _CHECKED_ROWS):
                    return traced.forward  # type: ignore[no-any-return]
                reason = "it computes batches of other sizes in another way"
        except Exception as error:  # tracing runs the network's own Python, which may raise anything
            reason = first_line(error)
        log.info("network_not_traced", reason=reason)
        return compute
