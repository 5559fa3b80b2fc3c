"""What every server of the Open Inference Protocol V2 does over gRPC."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from inference_service.oip import protocol_pb2 as pb

from tests.conformance.conftest import Model
from tests.inference_process import InferenceServer

Call = Callable[[Any], Any]
pytestmark = pytest.mark.timeout(400)  # the first test starts a server


@pytest.fixture(scope="module")
def call(server: InferenceServer) -> Iterator[Call]:
    """Call the method that a request is for."""
    if server.grpc is None:
        pytest.skip("no address of a gRPC side was given")
    metadata = (("authorization", f"Bearer {server.token}"),) if server.token else ()
    with grpc.insecure_channel(server.grpc) as channel:

        def ask(request: Any) -> Any:
            method = type(request).__name__.removesuffix("Request")
            ask_server = channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=getattr(pb, f"{method}Response").FromString,
            )
            return ask_server(request, timeout=30, metadata=metadata)

        yield ask


def infer_request(model: Model, **fields: Any) -> pb.ModelInferRequest:
    inputs = [
        pb.ModelInferRequest.InferInputTensor(
            name=tensor["name"], datatype=tensor["datatype"], shape=model.shape(tensor)
        )
        for tensor in model.metadata["inputs"]
    ]
    raw = [model.inputs[tensor.name] for tensor in inputs]
    return pb.ModelInferRequest(model_name=model.name, inputs=inputs, raw_input_contents=raw, **fields)


def refusal(call: Call, request: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code()


def test_the_server_and_the_model_are_ready(call: Call, model: Model) -> None:
    assert call(pb.ServerLiveRequest()).live
    assert call(pb.ServerReadyRequest()).ready
    assert call(pb.ModelReadyRequest(name=model.name)).ready


def test_the_metadata_are_those_of_rest(call: Call, model: Model) -> None:
    assert set(call(pb.ServerMetadataRequest()).extensions) == model.extensions
    metadata = call(pb.ModelMetadataRequest(name=model.name))
    for tensors, expected in ((metadata.inputs, "inputs"), (metadata.outputs, "outputs")):
        assert [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)} for tensor in tensors
        ] == model.metadata[expected]


def test_raw_data_are_taken_and_given(call: Call, model: Model) -> None:
    answer = call(infer_request(model, id="a request"))
    assert (answer.model_name, answer.id) == (model.name, "a request")
    assert {output.name for output in answer.outputs} == {tensor["name"] for tensor in model.metadata["outputs"]}
    assert len(answer.raw_output_contents) == len(answer.outputs)


def test_an_unknown_model_is_refused(call: Call, model: Model) -> None:
    request = infer_request(model)
    request.model_name = "no-such-model"
    assert refusal(call, request) in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
    assert refusal(call, pb.ModelMetadataRequest(name="no-such-model")) in (
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
    )


def test_what_does_not_fit_is_refused(call: Call, model: Model) -> None:
    wrong_shape, cut_short, unknown = infer_request(model), infer_request(model), infer_request(model)
    wrong_shape.inputs[0].shape.append(7)
    cut_short.raw_input_contents[0] = cut_short.raw_input_contents[0][:-1]
    unknown.inputs[0].name = "no-such-input"
    for request in (wrong_shape, cut_short, unknown):
        assert refusal(call, request) == grpc.StatusCode.INVALID_ARGUMENT
