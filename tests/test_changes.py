"""Changes under load: new revisions, other numbers of replicas, drains, kills, and a controller that is killed in the middle of each.

BERTH_CHANGES says how many of each kind there are (default 3), BERTH_SEED where and when.
"""

import os
import random

from harness import cases, procs
from harness.counts import Counts
from harness.load import Load
from harness.platform import ApiError, Platform

CHANGES = int(os.environ.get("BERTH_CHANGES", "3"))
SEED = int(os.environ.get("BERTH_SEED", "1"))
# Fewer than two, and a killed replica leaves nobody who could take over its request.
REPLICAS = range(2, 5)
CLIENTS = {"http_threads": 24, "grpc_threads": 8}


def test_updates_scales_drains_and_kills_fail_no_request(platform: Platform) -> None:
    platform.deploy("busy", cases.made("iris.onnx")(), minReplicas=min(REPLICAS))
    changes = Changes(platform, "busy", random.Random(SEED))
    before = Counts.of(platform)
    with Load(platform, "busy", **CLIENTS) as load:
        for _ in range(CHANGES):
            # An update first: a new revision has no failures behind it, so that a kill brings no long back-off.
            for change in (changes.update, changes.scale, changes.drain, changes.kill):
                change()
                load.wait_for_more(1)
                assert not load.failures, f"{change.__name__}, seed {SEED}: {load.failures}"
    answered = sum(load.answered)
    assert not load.failures
    # Clients and gateway count the same. Answers are counted by revision, and most revisions are gone.
    counted = Counts.of(platform)
    assert counted.received - before.received == answered and counted.at_rest
    assert platform.service("busy")["status"]["latestRolledoutRevision"] > CHANGES
    print(f"{answered} requests of {sum(CLIENTS.values())} clients, {CHANGES} of each change: 0 failed")
    platform.api("DELETE", "/inferenceservices/busy")


def test_a_controller_killed_in_the_middle_of_changes_finishes_them(fresh: Platform) -> None:
    fresh.start()
    fresh.deploy("steady", cases.made("iris.onnx")(), minReplicas=2)
    changes = Changes(fresh, "steady", random.Random(SEED))
    kinds = [changes.update, changes.scale, changes.share, changes.promote, changes.make, changes.remove]
    with Load(fresh, "steady") as load:
        for number in range(CHANGES * len(kinds)):
            kind = kinds[number % len(kinds)]
            killed_within(fresh, kind, changes.random)
            changes.settle()
            load.wait_for_more(1)
            assert not load.failures, f"controller killed within {kind.__name__}, seed {SEED}: {load.failures}"
    assert not load.failures
    print(f"{CHANGES * len(kinds)} kills of the controller, {sum(load.answered)} requests: 0 failed")


def killed_within(platform: Platform, change, chance: random.Random) -> None:
    """Begins a change, kills the controller at a point counted in turns, not in time, and brings it back."""
    controller = platform.pid_of("controller")
    turns = chance.choice([0, 100, 10_000, 100_000, 1_000_000])
    change(wait=False)
    for _ in range(turns):
        pass
    procs.kill(controller)
    procs.wait_until(lambda: not procs.alive(controller), "the controller to be gone")
    platform.restart_controller()


class Changes:
    """Changes of one service, each waited for until nothing is on its way any more."""

    def __init__(self, platform: Platform, name: str, chance: random.Random) -> None:
        self.platform, self.name, self.random = platform, name, chance
        self.timeout = 100
        self.other: bool | None = None

    def update(self, wait: bool = True) -> None:
        """Another revision."""
        self.timeout += 1
        self.put(wait, timeout=self.timeout, canaryTrafficPercent=None)

    def scale(self, wait: bool = True) -> None:
        """Another number of replicas."""
        now = self.platform.service(self.name)["spec"]["predictor"]["minReplicas"]
        self.put(wait, minReplicas=self.random.choice([count for count in REPLICAS if count != now]))

    def share(self, wait: bool = True) -> None:
        """A canary."""
        self.timeout += 1
        self.put(wait, timeout=self.timeout, canaryTrafficPercent=self.random.choice([10, 50]))

    def promote(self, wait: bool = True) -> None:
        """The canary gets everything."""
        self.put(wait, canaryTrafficPercent=None)

    def make(self, wait: bool = True) -> None:
        """Another service."""
        self.platform.create("other", cases.made("simple.onnx")())
        self.other = True

    def remove(self, wait: bool = True) -> None:
        """The end of the other service."""
        self.platform.api("DELETE", "/inferenceservices/other")
        self.other = False

    def drain(self) -> None:
        """A replica is asked to stop, as a person would with `kill`."""
        victim = self.random.choice(self.pids())
        os.kill(victim, 15)
        procs.wait_until(lambda: victim not in self.pids(), "the replica to be gone")
        self.settle()

    def kill(self) -> None:
        """A replica dies."""
        victim = self.random.choice(self.pids())
        procs.kill(victim)
        procs.wait_until(lambda: victim not in self.pids(), "the replica to be gone")
        self.settle()

    def pids(self) -> list[int]:
        replicas = self.platform.service(self.name)["status"]["replicas"]
        return [replica["pid"] for replica in replicas if replica["phase"] == "Ready"]

    def put(self, wait: bool, **predictor) -> None:
        changed = self.platform.service(self.name)
        wanted = changed["spec"]["predictor"] | predictor
        changed["spec"]["predictor"] = {name: value for name, value in wanted.items() if value is not None}
        del changed["metadata"]["resourceVersion"]  # the status may change it at any moment
        self.platform.api("PUT", f"/inferenceservices/{self.name}", changed)
        if wait:
            self.settle()

    def settle(self) -> None:
        """Until what is there is what was asked for last, and nothing else."""
        procs.wait_until(self.is_settled, f"`{self.name}` to be as asked for", 120)
        if self.other is not None:
            procs.wait_until(self.other_is_settled, "the other service to be as asked for", 120)

    def is_settled(self) -> bool:
        service = self.platform.ready(self.name)
        if not service:
            return False
        predictor, status = service["spec"]["predictor"], service["status"]
        percent = predictor.get("canaryTrafficPercent", 100)
        newest = status["latestCreatedRevision"]
        shares = [newest] if percent == 100 else [newest, status["latestRolledoutRevision"]]
        found = sorted((replica["revision"], replica["phase"]) for replica in status["replicas"])
        wanted = sorted((revision, "Ready") for revision in shares for _ in range(predictor["minReplicas"]))
        return found == wanted and [share["revision"] for share in status["traffic"]] == shares

    def other_is_settled(self) -> bool:
        try:
            return bool(self.platform.ready("other")) and bool(self.other)
        except ApiError as error:
            return error.code == 404 and not self.other
