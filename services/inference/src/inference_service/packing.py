"""Weights of convolutions, laid out once as oneDNN computes with them.

oneDNN has its own layouts, and takes weights in others into them at each call. torch's Inductor lays them out when it
compiles, but for batches of one size alone, since the best layout may depend on it. Here that is done where it does
not, which is nearly everywhere: in ResNet-50 for 53 of 53 convolutions in bfloat16 and 47 in float32 (AVX-512).
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph


def pack_weights(graph: Graph, rows: Sequence[int], threads: Iterable[int]) -> None:
    """Pack weights in a graph of Inductor: those that batches of all `rows`, with all numbers of `threads`, want alike.

    The number of threads is the last of `threads` afterwards.
    """
    module = graph.owning_module
    assert module is not None
    wanted = [(number, count) for number in threads for count in rows]
    for node in graph.find_nodes(op="call_function", target=torch.ops.mkldnn._convolution_pointwise.default):
        arguments: tuple[Any, ...] = node.args
        images, constant, _, *how = arguments[:7]
        if constant.op != "get_attr":
            continue
        weight = attrgetter(constant.target)(module)
        packed = _packed(weight, how, images.meta["val"].shape[1:], wanted)
        if packed is not None:
            name = f"_packed_{node.name}"
            module.register_buffer(name, packed)
            with graph.inserting_before(node):
                in_its_place = graph.get_attr(name)
            in_its_place.meta.update(constant.meta)
            node.replace_input_with(constant, in_its_place)
            if not constant.users:
                graph.erase_node(constant)


def _packed(
    weight: Tensor, how: Sequence[Any], image: Sequence[int], wanted: Sequence[tuple[int, int]]
) -> Tensor | None:
    """Return weights in the one layout that all `wanted` threads and rows of `image`, [C, H, W], have, if it is one."""
    if weight.layout is not torch.strided:  # they are packed already
        return None
    padding, stride, dilation, groups = how
    layouts = set()
    for threads, rows in wanted:
        torch.set_num_threads(threads)
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, padding, stride, dilation, groups, (rows, *image))
        layouts.add(bytes(torch.ops.mkldnn._get_mkldnn_serialized_md(packed).tolist()))
    return packed if len(layouts) == 1 else None
