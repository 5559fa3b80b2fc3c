"""A network in bfloat16, but for its last layer."""

import torch
from torch import Tensor, nn


class WideLinear(nn.Linear):
    """A linear layer in float32, for inputs of any dtype."""

    def forward(self, input: Tensor) -> Tensor:
        """Return float32 [..., out_features]."""
        return super().forward(input.float())


def to_bfloat16(network: nn.Module) -> nn.Module:
    """Change the weights of a network to bfloat16, and return it. Its last linear layer stays in float32.

    In bfloat16 two logits of about 10 are the same or 1/16 apart, so that the first two classes of a picture would
    often be equal. The layer is too small for its dtype to show in the time.
    """
    names = [name for name, module in network.named_modules() if name and type(module) is nn.Linear]
    last = names[-1] if names else None
    kept = {key: tensor.float() for key, tensor in network.get_submodule(last).state_dict().items()} if last else {}
    network = network.to(torch.bfloat16)
    if last:
        narrow = network.get_submodule(last)
        assert isinstance(narrow, nn.Linear)
        wide = WideLinear(narrow.in_features, narrow.out_features, bias=narrow.bias is not None, device="meta")
        wide.load_state_dict(kept, assign=True)
        network.set_submodule(last, wide.eval().requires_grad_(False))
    return network
