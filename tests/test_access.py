"""Every route and method of both protocols without a key, with wrong ones and with keys for other things.

Logs are at their loudest here, and at the end nothing of a key may be found in them, in arguments or in files.
"""

import http.client
import json
import secrets
import stat
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

from harness import cases, procs
from harness.platform import ApiError, Platform

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
OPEN = ("/livez", "/readyz")
MINE, OTHER = "mine", "other"

# Paths that exist, that exist elsewhere, and that try to be two things at once.
PATHS = (
    "/",
    "/v2",
    "/v2/",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models",
    "/v2/models/",
    f"/v2/models/{OTHER}",
    f"/v2/models/{OTHER}/",
    f"/v2/models/{OTHER}/ready",
    f"/v2/models/{OTHER}/infer",
    f"/v2/models/{OTHER}/stats",
    f"/v2/models/{OTHER}/openapi.json",
    f"/v2/models/{OTHER}/config",
    f"/v2/models/{OTHER}/generate",
    f"/v2/models/{OTHER}/versions/1",
    f"/v2/models/{OTHER}/versions/1/ready",
    f"/v2/models/{OTHER}/versions/1/infer",
    "/v2/models/nobody/infer",
    "/v2/repository/index",
    f"/v2/repository/models/{OTHER}/load",
    "/v2/logging",
    "/v1/models",
    f"/v1/models/{OTHER}",
    f"/v1/models/{OTHER}:predict",
    f"/v1/models/{OTHER}/versions/1:predict",
    f"/v1/models/{MINE}/../{OTHER}:predict",
    "/openapi.json",
    "/metrics",
    "/status",
    "/apis/berth.dev/v1alpha1/keys",
    "/apis/berth.dev/v1alpha1/inferenceservices",
    "/internal/gateway-snapshot",
    "/livez/",
    "/livez/../metrics",
    "//livez",
    "/LIVEZ",
    "/readyz/x",
    f"/livez/../v2/models/{OTHER}/infer",
    f"/v2/models/{MINE}/../{OTHER}/infer",
    f"/v2/models/{MINE}/..%2f{OTHER}/infer",
    f"/v2/models/{MINE}%2f..%2f{OTHER}/infer",
    "/v2/models/%6fther/infer",
    f"/v2//models/{OTHER}/infer",
    f"/v2/models/{OTHER};{MINE}/infer",
    f"/v2/models/{OTHER}%00/infer",
    f"/V2/Models/{OTHER}/infer",
    f"http://localhost/v2/models/{OTHER}/infer",
    "*",
)
GRPC_METHODS = tuple(
    f"/{service.full_name}/{method.name}"
    for service in (
        service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
        health_pb2.DESCRIPTOR.services_by_name["Health"],
        reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
    )
    for method in service.methods
) + (
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/nobody.Service/Nothing",
    "/inference.GRPCInferenceService/Nothing",
)
BODY = json.dumps(
    {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}
).encode()


@pytest.fixture(scope="module")
def platform():
    platform = Platform(env={"RUST_LOG": "trace"})
    try:
        platform.start()
        platform.create(MINE, cases.made("iris.onnx")())
        platform.create(OTHER, cases.made("iris.onnx")())
        platform.wait_ready_at_first(MINE)
        platform.wait_ready_at_first(OTHER)
        yield platform
    finally:
        platform.destroy()


@pytest.fixture(scope="module")
def keys(platform: Platform) -> dict[str, str]:
    """Keys by what they are; the revoked one was good once."""
    allow = {
        "mine": [f"infer:{MINE}"],
        "reader": [f"metadata:{OTHER}"],
        "metrics": ["metrics"],
        "all": ["infer:*"],
        "revoked": ["infer:*", "metadata:*", "metrics"],
    }
    made = {name: platform.new_key(f"key-{name}", permissions) for name, permissions in allow.items()}
    assert ask(platform, "POST", f"/v2/models/{OTHER}/infer", made["revoked"])[0] == 200
    revoked = platform.api("DELETE", "/keys/key-revoked")
    assert revoked["appliedByGateway"]
    return made


def wrong_keys(keys: dict[str, str]) -> dict[str, list[str]]:
    """`Authorization` headers that give nobody the right to anything."""
    good = keys["all"]
    flipped = good[:-1] + ("0" if good[-1] != "0" else "1")
    unknown = f"berth_{'a' * len(good.split('_')[1])}_{good.split('_', 2)[2]}"
    return {
        "none": [],
        "empty": [""],
        "no scheme": [good],
        "basic": ["Basic YWRtaW46YWRtaW4="],
        "bearer alone": ["Bearer"],
        "bearer of nothing": ["Bearer "],
        "malformed": ["Bearer berth_"],
        "wrong secret": [f"Bearer {flipped}"],
        "secret cut short": [f"Bearer {good[:-1]}"],
        "secret with more": [f"Bearer {good}a"],
        "another key's id": [f"Bearer {unknown}"],
        "random": [f"Bearer berth_{secrets.token_hex(8)}_{secrets.token_hex(32)}"],
        "long": ["Bearer " + "a" * 8000],
        "not text": ["Bearer \xff\xfe"],
        "revoked": [f"Bearer {keys['revoked']}"],
        "a good and a bad one": [f"Bearer {good}", "Bearer berth_x_y"],
    }


WRONG = tuple(wrong_keys({"all": "berth_a_b", "revoked": ""}))


@pytest.mark.parametrize("wrong", WRONG)
def test_every_path_and_method_refuses(platform: Platform, keys, wrong: str) -> None:
    values = wrong_keys(keys)[wrong]
    connection = http.client.HTTPConnection(platform.address, timeout=30)
    seen = {}
    for path in PATHS:
        for method in METHODS:
            answer = raw(connection, method, path, values)
            if answer.status == 400 and answer.will_close:
                connection = http.client.HTTPConnection(platform.address, timeout=30)
            seen[method, path] = answer.status
            if answer.status == 401:
                assert answer.headers["www-authenticate"].startswith("Bearer"), (method, path)
    connection.close()
    # 400: the request is malformed as HTTP, and nobody looked at it.
    odd = {key: status for key, status in seen.items() if status not in (401, 400)}
    assert not odd
    assert all(
        seen[method, path] == 401 for method, path in seen if path.startswith("/v2/models/other") and "%" not in path
    )


# A gRPC client does not send metadata that is not text.
@pytest.mark.parametrize("wrong", [wrong for wrong in WRONG if wrong != "not text"])
def test_every_grpc_method_refuses(platform: Platform, keys, wrong: str) -> None:
    values = wrong_keys(keys)[wrong]
    with grpc.insecure_channel(platform.address) as channel:
        for method in GRPC_METHODS:
            metadata = tuple(("authorization", value) for value in values)
            assert call(channel, method, b"", metadata) == grpc.StatusCode.UNAUTHENTICATED, method


def test_the_probes_are_open_and_say_nothing(platform: Platform) -> None:
    for path in OPEN:
        status, body = ask(platform, "GET", path, None)
        assert status == 200 and len(body) < 40, body
        for method in ("POST", "PUT", "DELETE"):
            assert ask(platform, method, path, None)[0] in (401, 405)


def test_a_key_for_one_service_is_for_no_other(platform: Platform, keys) -> None:
    assert ask(platform, "POST", f"/v2/models/{MINE}/infer", keys["mine"])[0] == 200
    assert ask(platform, "GET", f"/v2/models/{MINE}", keys["mine"])[0] == 200
    connection = http.client.HTTPConnection(platform.address, timeout=30)
    for path in PATHS:
        for method in METHODS:
            answer = raw(connection, method, path, [f"Bearer {keys['mine']}"])
            if answer.will_close:
                connection = http.client.HTTPConnection(platform.address, timeout=30)
            if OTHER in path or "nobody" in path or path == "/metrics":
                # 501: nothing is loaded by requests, whatever it is called.
                assert answer.status in (400, 403, 404, 405, 501), (method, path, answer.status)
            if path in ("/metrics", "/v2/models/nobody/infer", f"/v2/models/{OTHER}/infer", f"/v2/models/{OTHER}"):
                assert answer.status in (403, 405), (method, path, answer.status)
    connection.close()


def test_a_service_that_is_not_there_looks_like_one_that_is_not_allowed(platform: Platform, keys) -> None:
    there = ask(platform, "POST", f"/v2/models/{OTHER}/infer", keys["mine"])
    nowhere = ask(platform, "POST", "/v2/models/nobody/infer", keys["mine"])
    assert there[0] == nowhere[0] == 403
    assert there[1].replace(f"`{OTHER}`", "x") == nowhere[1].replace("`nobody`", "x")
    assert ask(platform, "POST", "/v2/models/nobody/infer", keys["all"])[0] == 404


def test_actions_are_told_apart(platform: Platform, keys) -> None:
    expected = {
        ("reader", "GET", f"/v2/models/{OTHER}"): 200,
        ("reader", "GET", f"/v2/models/{OTHER}/ready"): 200,
        ("reader", "POST", f"/v2/models/{OTHER}/infer"): 403,
        ("reader", "GET", f"/v2/models/{MINE}"): 403,
        ("reader", "GET", "/metrics"): 403,
        ("metrics", "GET", "/metrics"): 200,
        ("metrics", "POST", f"/v2/models/{OTHER}/infer"): 403,
        ("metrics", "GET", f"/v2/models/{OTHER}"): 403,
        ("metrics", "GET", "/v2"): 200,
        ("all", "POST", f"/v2/models/{OTHER}/infer"): 200,
        ("all", "GET", f"/v2/models/{MINE}"): 200,
        ("all", "GET", "/metrics"): 403,
    }
    assert {case: ask(platform, case[1], case[2], keys[case[0]])[0] for case in expected} == expected


def test_grpc_permissions(platform: Platform, keys) -> None:
    denied, absent, ok = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OK
    expected = {
        ("mine", "ModelInfer", OTHER): denied,
        ("mine", "ModelMetadata", OTHER): denied,
        ("mine", "ModelReady", OTHER): denied,
        ("mine", "ModelInfer", "nobody"): denied,
        ("mine", "ModelInfer", ""): grpc.StatusCode.INVALID_ARGUMENT,
        ("mine", "ModelInfer", MINE): ok,
        ("mine", "ModelMetadata", MINE): ok,
        ("reader", "ModelInfer", OTHER): denied,
        ("reader", "ModelMetadata", OTHER): ok,
        ("metrics", "ModelMetadata", OTHER): denied,
        ("all", "ModelInfer", OTHER): ok,
        ("all", "ModelInfer", "nobody"): absent,
        ("all", "ModelMetadata", "nobody"): absent,
    }
    with grpc.insecure_channel(platform.address) as channel:
        got = {case: call_model(channel, case[1], case[2], keys[case[0]]) for case in expected}
    assert got == expected


def test_a_message_that_names_two_models_reaches_no_foreign_one(platform: Platform, keys) -> None:
    """Protocol buffers let a field come twice and the last one count; gateway and runtime must read it alike."""
    metadata = (("authorization", f"Bearer {keys['mine']}"),)
    padding = service_pb2.ModelInferRequest(raw_input_contents=[bytes(100_000)]).SerializeToString()
    mine, other = (service_pb2.ModelInferRequest(model_name=name).SerializeToString() for name in (MINE, OTHER))
    request = infer_message(MINE)
    with grpc.insecure_channel(platform.address) as channel:
        for message in (request + other, mine + padding + other, other + request + other, padding + other):
            assert call(channel, "/inference.GRPCInferenceService/ModelInfer", message, metadata) != grpc.StatusCode.OK


def test_headers_of_the_inside_mean_nothing_from_outside(platform: Platform, keys) -> None:
    connection = http.client.HTTPConnection(platform.address, timeout=30)
    headers = {"authorization": f"Bearer {keys['mine']}", "x-berth-service": OTHER, "x-berth-replica": "r"}
    connection.request("POST", f"/v2/models/{MINE}/infer", BODY, headers)
    answer = connection.getresponse()
    assert answer.status == 200 and json.loads(answer.read())["model_name"] == MINE
    connection.close()


def test_a_key_is_shown_once_and_kept_as_a_digest(platform: Platform, keys) -> None:
    listed = platform.api("GET", "/keys")
    assert {"key-mine", "key-reader"} <= {key["name"] for key in listed["items"]}
    assert "key-revoked" not in {key["name"] for key in listed["items"]}
    for key in keys.values():
        assert key.split("_", 2)[2] not in json.dumps(listed)


def test_revoking_takes_effect_at_once_and_a_new_key_works_at_once(platform: Platform) -> None:
    for number in range(5):
        key = platform.new_key(f"short-{number}", [f"infer:{MINE}"])
        assert ask(platform, "POST", f"/v2/models/{MINE}/infer", key)[0] == 200
        platform.api("DELETE", f"/keys/short-{number}")
        assert ask(platform, "POST", f"/v2/models/{MINE}/infer", key)[0] == 401
    with pytest.raises(ApiError) as gone:
        platform.api("DELETE", "/keys/short-0")
    assert gone.value.code == 404


def test_zz_no_secret_is_left_anywhere(platform: Platform, keys) -> None:
    """Runs last in this file: after every request above, with every log at its loudest."""
    local = (platform.data / "local.key").read_text().strip()
    given = [*keys.values(), platform.key(), local]
    needles = [key.split("_", 2)[2].encode() for key in given]
    assert all(len(needle) >= 32 for needle in needles)
    for path in files_of(platform):
        if path.name == "local.key":
            continue
        content = path.read_bytes()
        assert not any(needle in content for needle in needles), f"a key's secret is in {path}"
    for pid in platform.processes():
        for name in ("cmdline", "environ"):
            content = Path(f"/proc/{pid}/{name}").read_bytes()
            assert not any(needle in content for needle in needles), (
                f"a key's secret is in {name} of {procs.command_line(pid)}"
            )


def test_zz_files_are_for_their_owner_alone(platform: Platform) -> None:
    assert stat.S_IMODE(platform.data.stat().st_mode) == 0o700
    for path in (platform.data / "local.key", platform.data / "run" / "control.sock", *platform.data.glob("berth.db*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, f"{path} is open to others"
    for path in (platform.data / "run").glob("*.sock"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, f"{path} is open to others"
    for path in files_of(platform):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022, f"others can write {path}"


def files_of(platform: Platform) -> list[Path]:
    logs = [platform.output]
    return [*logs, *(path for path in platform.data.rglob("*") if path.is_file())]


def ask(platform: Platform, method: str, path: str, key: str | None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(platform.address, timeout=30)
    answer = raw(connection, method, path, [f"Bearer {key}"] if key else [])
    connection.close()
    return answer.status, answer.text


def raw(connection: http.client.HTTPConnection, method: str, path: str, authorization: list[str]):
    """A request as it is written here: no path is tidied up on the way."""
    connection.putrequest(method, path, skip_accept_encoding=True)
    for value in authorization:
        connection.putheader("authorization", value.encode("latin-1"))
    body = BODY if method in ("POST", "PUT", "PATCH") else b""
    if body:
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    answer.text = answer.read().decode(errors="replace")
    return answer


def call(channel: grpc.Channel, method: str, message: bytes, metadata) -> grpc.StatusCode:
    """The status of a call, whatever its kind: one message there, and what comes back is bytes."""
    unknown = channel.stream_stream(method)
    try:
        list(unknown(iter([message]), metadata=metadata, timeout=30))
    except grpc.RpcError as refused:
        return refused.code()
    return grpc.StatusCode.OK


def call_model(channel: grpc.Channel, method: str, model: str, key: str) -> grpc.StatusCode:
    message = (
        infer_message(model)
        if method == "ModelInfer"
        else service_pb2.ModelReadyRequest(name=model).SerializeToString()
    )
    return call(channel, f"/inference.GRPCInferenceService/{method}", message, (("authorization", f"Bearer {key}"),))


def infer_message(model: str) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="input", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(cases.irises(0)["input"].tobytes())
    return request.SerializeToString()
