"""Batch normalisation of a trained network, folded into the convolutions before it."""

from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inference_service.compute.tracing import OneThreadTracer


def fold_batch_norms(network: nn.Module) -> None:
    """Change the convolutions of a network in evaluation mode so that what follows them has nothing left to do.

    A normalisation after a convolution is the convolution with other weights (Jacob et al., 2018,
    arXiv:1712.05877, section 3.2). An identity takes its place, so that the layers keep their names. A network
    whose Python cannot be traced stays as it is, as do layers that are called in more than one place.
    """
    if not any(type(module) is nn.BatchNorm2d for module in network.modules()):
        return
    try:
        graph = OneThreadTracer().trace(network)
    except Exception:  # tracing runs the network's own Python, which may raise anything
        return
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = Counter(node.target for node in calls)
    for call in calls:
        before = call.args[0] if call.args else None
        if isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1:
            convolution, norm = str(before.target), str(call.target)
            if times[convolution] == times[norm] == 1:
                _fold(network, convolution, norm)


def _fold(network: nn.Module, convolution: str, norm: str) -> None:
    """Fold two layers, where they are what their names here say."""
    convolves, normalizes = network.get_submodule(convolution), network.get_submodule(norm)
    # Classes of a network's own may do more than those that they are made of.
    if type(convolves) is not nn.Conv2d or type(normalizes) is not nn.BatchNorm2d:
        return
    if normalizes.track_running_stats and not (convolves.training or normalizes.training):
        network.set_submodule(convolution, fuse_conv_bn_eval(convolves, normalizes))
        network.set_submodule(norm, nn.Identity())
