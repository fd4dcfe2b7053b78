#!/usr/bin/env python3
"""Starts Berth in the foreground, deploys the example, asks it, and says how to ask again: what `make up` runs.

    up.py BERTH [BUNDLE]    BERTH is the executable; BUNDLE is the example's, made when it is not given

BERTH_DATA_DIR says where Berth keeps its data, BERTH_LISTEN where it listens (default 127.0.0.1:8080).

Berth runs until Ctrl-C, which it answers by draining. Standard library only.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent / "breast-cancer"
NAME = "breast-cancer"
CLASSES = ["malignant", "benign"]
# Starting anew with many models takes a while; a person who waits longer wants to know why.
START_SECONDS_MAX = 120


def main() -> int:
    berth = Path(sys.argv[1]).absolute()
    if sys.argv[2:]:
        bundle = sys.argv[2]
    else:
        made = subprocess.run([EXAMPLE / "make.sh"], stdout=subprocess.PIPE, text=True)
        if made.returncode != 0:
            return made.returncode
        bundle = made.stdout.strip()
    listen = os.environ.get("BERTH_LISTEN", "127.0.0.1:8080")
    # A group of its own: Ctrl-C of the terminal comes here alone and is passed on once.
    up = subprocess.Popen([berth, "up", "--listen", listen], process_group=0)
    asked_to_stop = []

    def stop(number: int, _frame: object = None) -> None:
        asked_to_stop.append(number)
        if up.poll() is None:
            up.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        if status := wait_up(berth, up):
            deploy(berth, bundle)
            show(status)
    except Exception as error:  # whatever it was, Berth must not stay behind
        if not asked_to_stop:
            print(f"up: {error}", file=sys.stderr)
            stop(signal.SIGTERM)
            up.wait()
            return 1
    return up.wait()


def wait_up(berth: Path, up: subprocess.Popen) -> dict | None:
    """The status once the gateway answers; nothing when Berth ended before."""
    end = time.monotonic() + START_SECONDS_MAX
    while up.poll() is None:
        # In a session of its own, like every command here, so that Ctrl-C is Berth's alone.
        asked = subprocess.run([berth, "status", "-o", "json"], capture_output=True, text=True, start_new_session=True)
        status = json.loads(asked.stdout) if asked.returncode == 0 else {}
        # The key is made right after the gateway is ready.
        if (status.get("gateway") or {}).get("ready") and (Path(status["dataDir"]) / "local.key").exists():
            return status
        if time.monotonic() > end:
            raise RuntimeError(f"Berth did not start within {START_SECONDS_MAX} s: {asked.stderr.strip() or asked.stdout.strip()}")
        time.sleep(0.1)
    return None


def deploy(berth: Path, bundle: str) -> None:
    """Deploys and waits; a bundle that is there already changes nothing."""
    deployed = subprocess.run([berth, "deploy", NAME, bundle], start_new_session=True)
    if deployed.returncode != 0:
        raise RuntimeError(f"`berth deploy {NAME} {bundle}` ended with {deployed.returncode}")


def show(status: dict) -> None:
    """Asks for the row and prints the answer, how to ask again, the key, the data and how to stop."""
    data = Path(status["dataDir"])
    url = f"http://{status['listen']}/v2/models/{NAME}/infer"
    row, key_file = EXAMPLE / "row.json", data / "local.key"
    headers = {"Authorization": f"Bearer {key_file.read_text().strip()}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, row.read_bytes(), headers), timeout=30) as response:
        outputs = {output["name"]: output["data"] for output in json.load(response)["outputs"]}
    shares = ", ".join(f"{name} {share:.1%}" for name, share in zip(CLASSES, outputs["probabilities"], strict=True))
    python = (
        f'import urllib.request as r; print(r.urlopen(r.Request("{url}", open("{row}", "rb").read(), '
        f'{{"Authorization": "Bearer " + open("{key_file}").read().strip(), "Content-Type": "application/json"}})).read().decode())'
    )
    print(f"""
The example answers. The row in {row}
is {CLASSES[outputs["label"][0]]}: {shares}.

Ask the same with curl:

  curl {url} -H "Authorization: Bearer $(cat {key_file})" -H "Content-Type: application/json" --data @{row}

or with Python:

  python3 -c '{python}'

Key:     {key_file.read_text().strip()}
         (kept in {key_file}, readable by you alone)
Data:    {data}
Stop:    Ctrl-C; requests that have begun are finished first. `make up` again finds everything as it was left.
""", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before Berth was started
        sys.exit(130)
