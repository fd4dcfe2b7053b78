"""What the gateway counted, read at its own socket, where reading is not itself a request."""

from harness.platform import Platform, UnixConnection

READ_SECONDS = 30


class Counts:
    """One look at the gateway's metrics."""

    def __init__(self, text: str) -> None:
        self.values: dict[str, float] = {}
        for line in text.splitlines():
            if line.startswith("berth_gateway_"):
                name, value = line.rsplit(" ", 1)
                self.values[name.removeprefix("berth_gateway_")] = float(value)

    @classmethod
    def of(cls, platform: Platform) -> "Counts":
        connection = UnixConnection(platform.data / "run" / "gateway.sock", READ_SECONDS)
        try:
            connection.request("GET", "/metrics")
            return cls(connection.getresponse().read().decode())
        finally:
            connection.close()

    def total(self, name: str, *labels: str) -> int:
        """The sum over the series of `name` that have all these labels, each as `name="value"`."""
        fitting = [key for key in self.values if key.partition("{")[0] == name and all(label in key for label in labels)]
        return int(sum(self.values[key] for key in fitting))

    def label(self, name: str, label: str) -> set[str]:
        """The values of a label in the series of `name` that counted anything."""
        counted = [key for key, value in self.values.items() if key.partition("{")[0] == name and value]
        return {key.partition(f'{label}="')[2].partition('"')[0] for key in counted}

    @property
    def received(self) -> int:
        return self.total("received_total")

    @property
    def ended(self) -> int:
        """Answered by a replica or the gateway, refused, or cancelled; the first two share one name."""
        return self.total("answered_total") + self.total("cancelled_total")

    @property
    def at_rest(self) -> bool:
        return self.values["in_flight_requests"] == 0 and self.received == self.ended

    def __str__(self) -> str:
        kinds = {name: self.total(f"{name}_total") for name in ("received", "answered", "rejected", "cancelled")}
        return f"{kinds}, in flight {self.values['in_flight_requests']:.0f}"
