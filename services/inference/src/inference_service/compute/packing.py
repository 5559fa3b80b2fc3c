"""Weights of convolutions, laid out once as oneDNN computes with them.

oneDNN has its own layouts, and takes weights in others into them at each call: a third of the time of a lone picture.
torch's Inductor lays them out when it compiles, but for batches of one size alone, since the best layout may depend on
it. Here that is done where it does not, which is nearly everywhere: in ResNet-50 for 53 of 53 convolutions in bfloat16
and 47 in float32 (AVX-512).
"""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Graph


class Batches(NamedTuple):
    """What is computed: batches of these sizes, with these numbers of threads."""

    rows: Sequence[int]
    threads: Sequence[int]


class PackedConvolution(nn.Module):
    """A convolution with its own copy of the weights of another, laid out for inputs [rows, *image]."""

    def __init__(self, convolution: nn.Conv2d, image: Sequence[int], rows: int) -> None:
        super().__init__()
        weight = convolution.weight.detach().clone()
        stride, padding, dilation = map(list, (convolution.stride, convolution.padding, convolution.dilation))
        how = (stride, padding, dilation, convolution.groups, [rows, *image], "none")
        self._packed = torch.ops.mkldnn_prepacked.conv2d_prepack(weight, convolution.bias, *how)
        weight.untyped_storage().resize_(0)  # what was packed is kept beside it, for those who save it

    def forward(self, images: Tensor) -> Tensor:
        """Return what the other convolution does."""
        convolved: Tensor = torch.ops.mkldnn_prepacked.conv2d_run(images, self._packed)
        return convolved


def pack_convolutions(network: nn.Module, image: Tensor, batches: Batches) -> None:
    """Change a network for inputs like `image`, [1, 3, H, W], where all `batches` want the same layout.

    What is called with inputs of several sizes, or in another way than a convolution is, stays as it is.
    """
    shapes = _input_shapes(network, image)
    for name, module in list(network.named_modules()):
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and len(shapes.get(module, ())) == 1:
            [shape] = shapes[module]
            how = (module.padding, module.stride, module.dilation, module.groups)
            if _packed(module.weight.detach(), how, shape, batches) is not None:
                network.set_submodule(name, PackedConvolution(module, shape, batches.rows[-1]))


def _input_shapes(network: nn.Module, image: Tensor) -> dict[nn.Module, set[tuple[int, ...]]]:
    """Return the sizes, without the rows, of what each module is called with."""
    shapes: dict[nn.Module, set[tuple[int, ...]]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes.setdefault(module, set()).add(tuple(inputs[0].shape[1:]))

    hooks = [each.register_forward_pre_hook(note) for each in network.modules() if type(each) is nn.Conv2d]
    try:
        with torch.inference_mode():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def pack_constants(graph: Graph, batches: Batches) -> None:
    """Change a graph of Inductor where all `batches` want the same layout."""
    module = graph.owning_module
    assert module is not None
    for node in graph.find_nodes(op="call_function", target=torch.ops.mkldnn._convolution_pointwise.default):
        arguments: tuple[Any, ...] = node.args
        images, constant, _, *how = arguments[:7]
        if constant.op != "get_attr":
            continue
        weight = attrgetter(constant.target)(module)
        packed = _packed(weight, how, images.meta["val"].shape[1:], batches)
        if packed is not None:
            name = f"_packed_{node.name}"
            module.register_buffer(name, packed)
            with graph.inserting_before(node):
                in_its_place = graph.get_attr(name)
            in_its_place.meta.update(constant.meta)
            node.replace_input_with(constant, in_its_place)
            if not constant.users:
                graph.erase_node(constant)


def _packed(weight: Tensor, how: Sequence[Any], image: Sequence[int], batches: Batches) -> Tensor | None:
    """Return weights in the one layout that all batches of `image`, [C, H, W], want, if it is one."""
    if weight.layout is not torch.strided:  # they are packed already
        return None
    layouts = set()
    for packed in _packed_for_each(weight, how, image, batches):
        layouts.add(bytes(torch.ops.mkldnn._get_mkldnn_serialized_md(packed).tolist()))
    return packed if len(layouts) == 1 else None


def _packed_for_each(weight: Tensor, how: Sequence[Any], image: Sequence[int], batches: Batches) -> Iterator[Tensor]:
    padding, stride, dilation, groups = how
    before = torch.get_num_threads()
    try:
        for threads in batches.threads:
            torch.set_num_threads(threads)
            for rows in batches.rows:
                yield torch.ops.mkldnn._reorder_convolution_weight(
                    weight, padding, stride, dilation, groups, (rows, *image)
                )
    finally:
        torch.set_num_threads(before)
