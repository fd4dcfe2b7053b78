"""TLS at the door, and no door in the clear beyond loopback."""

import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
import requests
from tritonclient.grpc import InferenceServerClient

from harness import cases
from harness.clients import grpc_inputs
from harness.platform import Platform

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    subprocess.run(["openssl", "req", *kind, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def platform(certificate):
    cert, key = certificate
    platform = Platform("--tls-cert", str(cert), "--tls-key", str(key))
    try:
        platform.start()
        platform.deploy("iris", cases.made("iris.onnx")())
        yield platform
    finally:
        platform.destroy()


def test_rest_over_tls(platform: Platform, certificate) -> None:
    url = f"https://{platform.address}/v2/models/iris/infer"
    row = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
    answer = requests.post(
        url, json={"inputs": [row]}, headers=platform.headers, verify=str(certificate[0]), timeout=30
    )
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [0]
    assert requests.get(f"https://{platform.address}/v2", verify=str(certificate[0]), timeout=30).status_code == 401


def test_grpc_over_tls(platform: Platform, certificate) -> None:
    credentials = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    client = InferenceServerClient(platform.address, ssl=True, creds=credentials)
    result = client.infer("iris", grpc_inputs(cases.irises(0)), headers=platform.headers)
    assert result.as_numpy("label").tolist() == [0]
    client.close()


def test_no_answer_in_the_clear(platform: Platform) -> None:
    with pytest.raises(requests.RequestException):
        requests.get(f"http://{platform.address}/livez", timeout=30)


def test_a_client_that_does_not_know_the_certificate(platform: Platform) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{platform.address}/livez", timeout=30)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_it_does_not_listen_in_the_clear_for_all(fresh: Platform, listen: str) -> None:
    refused = fresh.berth("up", "--listen", listen, check=False)
    assert refused.returncode not in (0, -9)
    text = refused.stderr + refused.stdout
    assert "--tls-cert" in text and "--insecure-listen-in-the-clear" in text
    assert not fresh.processes()
