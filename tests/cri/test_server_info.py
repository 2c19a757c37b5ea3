"""Health and reflection, as used by `grpc_health_probe` and `grpcurl`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from imagekeep.cri.server_info import REFLECT
from tests.containerd import wait_until

if TYPE_CHECKING:
    from imagekeep.protobuf import Method
    from tests.cri.client import Client
    from tests.cri.conftest import Serve


@pytest.mark.parametrize("service", ["", "runtime.v1.ImageService", "runtime.v1.RuntimeService"])
def test_the_server_is_healthy(service: str, begin: Serve) -> None:
    assert begin().ask("Check", {"service": service}).reply == {"status": "SERVING"}


def test_the_health_of_an_unknown_service_is_not_found(begin: Serve) -> None:
    assert begin().ask("Check", {"service": "nope"}).code == "NOT_FOUND"


def test_a_server_without_its_store_is_unhealthy(begin: Serve, reader: Any) -> None:
    client = begin()
    reader.close()
    assert client.ask("Check").reply == {"status": "NOT_SERVING"}
    assert client.ask("ListImages").code == "FAILED_PRECONDITION"


def test_a_server_is_healthy_again_once_its_store_is_back(begin: Serve, reader: Any) -> None:
    client = begin()
    assert client.ask("Check").reply == {"status": "SERVING"}
    away = reader.path.rename(reader.path.with_name("away.db"))
    wait_until(lambda: client.ask("Check").reply == {"status": "NOT_SERVING"})
    assert client.ask("ListImages").code == "UNAVAILABLE"
    away.rename(reader.path)
    wait_until(lambda: client.ask("Check").reply == {"status": "SERVING"})
    assert client.ask("ListImages").code == "OK"


def reflect(client: Client, method: Method[Any, Any], *questions: dict[str, Any]) -> list[Any]:
    """Send several reflection requests in one call, as clients do."""
    call = client.channel.stream_stream(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )
    return list(call(iter([method.request(**question) for question in questions]), timeout=10))


@pytest.mark.parametrize("method", REFLECT, ids=["v1", "v1alpha"])
def test_services_are_listed(method: Method[Any, Any], begin: Serve) -> None:
    (reply,) = reflect(begin(), method, {"list_services": ""})
    assert {service.name for service in reply.list_services_response.service} >= {
        "grpc.health.v1.Health",
        "runtime.v1.ImageService",
        "runtime.v1.RuntimeService",
    }


def test_a_service_can_be_called_from_its_description_only(begin: Serve) -> None:
    pool = DescriptorPool()
    (reply,) = reflect(begin(), REFLECT[0], {"file_containing_symbol": "runtime.v1.ImageService"})
    for file in reply.file_descriptor_response.file_descriptor_proto:
        pool.Add(FileDescriptorProto.FromString(file))
    method = pool.FindServiceByName("runtime.v1.ImageService").methods_by_name["StreamImages"]
    assert (method.output_type.full_name, method.server_streaming) == (
        "runtime.v1.StreamImagesResponse",
        True,
    )


@pytest.mark.parametrize(
    "question",
    [{"file_by_filename": "cri.proto"}, {"file_containing_symbol": "runtime.v1.Image"}],
)
def test_files_are_found_by_name_and_by_symbol(question: dict[str, Any], begin: Serve) -> None:
    (reply,) = reflect(begin(), REFLECT[0], question)
    assert len(reply.file_descriptor_response.file_descriptor_proto) == 1


def test_an_unknown_name_is_an_error_and_the_next_request_is_answered(begin: Serve) -> None:
    replies = reflect(begin(), REFLECT[0], {"file_containing_symbol": "nope.X"}, {"list_services": "*"})
    assert replies[0].error_response.error_code == 5
    assert replies[1].list_services_response.service


def ask_runtime(client: Client, method: str) -> tuple[str, str]:
    """Call a method of the runtime service; return the code and the details."""
    call: Any = client.channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
    with pytest.raises(grpc.RpcError) as failure:
        call(b"", timeout=20, wait_for_ready=True)
    return failure.value.code().name, failure.value.details() or ""


@pytest.mark.parametrize("method", ["ListContainers", "RunPodSandbox", "UpdateRuntimeConfig"])
def test_a_call_for_a_runtime_is_told_where_to_go(method: str, begin: Serve) -> None:
    code, details = ask_runtime(begin(cri_socket="/run/containerd/containerd.sock"), method)
    assert code == "UNIMPLEMENTED"
    assert details == (
        f"{method}: imagekeep serves images and does not run containers (set the client's runtime endpoint to "
        "unix:///run/containerd/containerd.sock; `crictl rmi --prune` needs it to find the images in use)"
    )


def test_a_runtime_that_is_not_known_is_not_named(begin: Serve) -> None:
    assert "endpoint to the runtime's own socket;" in ask_runtime(begin(), "ListContainers")[1]
