"""What a cloud says of a spot machine that it takes back, told to Ray as a drain. Ray itself asks no cloud.

Sources: AWS, "Spot Instance interruption notices" (two minutes; instance metadata, IMDSv2); Google Cloud, "Preemptible
VM instances", "Detecting if a VM was preempted" (30 s); Azure, "Scheduled Events for Linux VMs" (30 s).
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from losstune.spaces import InputError

EVERY_SECONDS = 2.0  # between looks: a cloud gives as little as half a minute
PATIENCE_SECONDS = 3.0  # for an answer
TOKEN_SECONDS = 21600  # that a token of AWS's metadata service is asked to last
SHORTEST_SECONDS = 30.0  # what a cloud gives that says no time
ALIVE = 0  # a machine's state, in Ray's terms
# No answer, 404 for no notice, or something that this kind of service does not say.
_NO_NOTICE = (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Notice:
    """A machine is taken back: in so many seconds, in words."""

    seconds: float
    text: str


Ask = Callable[[str, Mapping[str, str], str], str]  # (path, headers, method) -> the answer; raises where there is none


@dataclass(frozen=True)
class Cloud:
    """Where a cloud tells its machines of it. look: asks, and returns the notice if there is one."""

    endpoint: str
    look: Callable[[Ask], Notice | None]


def _aws(ask: Ask) -> Notice:
    token = ask("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}, "PUT")
    action = json.loads(ask("/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token}, "GET"))
    text = f"AWS is to {action['action']} this machine"
    return _notice(text, lambda: datetime.fromisoformat(action["time"].replace("Z", "+00:00")))


def _gcp(ask: Ask) -> Notice | None:
    said = ask("/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"}, "GET")
    return Notice(SHORTEST_SECONDS, "Google Cloud takes this machine back") if said.strip() == "TRUE" else None


def _azure(ask: Ask) -> Notice | None:
    """An event is told to the machines of a whole group; its Resources are those that it is about."""
    header = {"Metadata": "true"}
    events = json.loads(ask("/metadata/scheduledevents?api-version=2020-07-01", header, "GET"))["Events"]
    for event in (event for event in events if event["EventType"] == "Preempt"):
        name = ask("/metadata/instance/compute/name?api-version=2021-02-01&format=text", header, "GET").strip()
        if name in event["Resources"]:
            return _notice("Azure takes this machine back", lambda when=event["NotBefore"]: parsedate_to_datetime(when))
    return None


CLOUDS = {
    "aws": Cloud("http://169.254.169.254", _aws),
    "gcp": Cloud("http://metadata.google.internal", _gcp),
    "azure": Cloud("http://169.254.169.254", _azure),
}


def _notice(text: str, read: Callable[[], datetime]) -> Notice:
    """A notice, also where its time cannot be read."""
    try:
        when = read()
    except _NO_NOTICE:
        return Notice(SHORTEST_SECONDS, text)
    return Notice(max(0.0, when.timestamp() - time.time()), f"{text} at {when:%H:%M:%S} UTC")


def endpoint_of(cloud: str, endpoint: str | None = None) -> str:
    """Where a cloud's notices are read. InputError for other clouds, and for what is no address."""
    if cloud not in CLOUDS:
        raise InputError(f"--cloud {cloud}: not known; allowed: {', '.join(CLOUDS)}")
    at = CLOUDS[cloud].endpoint if endpoint is None else endpoint.rstrip("/")
    try:
        parts = urlsplit(at)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and at.split() == [at]
    except ValueError:  # a port that is none
        sound = False
    if not sound:
        raise InputError(f"--endpoint {endpoint!r}: no address of a service; allowed: http://HOST or http://HOST:PORT")
    return at


def wait_for(cloud: str, at: str) -> Notice:
    """Ask at an endpoint until there is a notice; where nobody answers, it is asked again."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy sees a machine's own service

    def ask(path: str, headers: Mapping[str, str], method: str) -> str:
        request = urllib.request.Request(at + path, headers=dict(headers), method=method)
        with direct.open(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.read().decode()

    while True:
        try:
            notice = CLOUDS[cloud].look(ask)
        except _NO_NOTICE:
            notice = None
        if notice is not None:
            return notice
        time.sleep(EVERY_SECONDS)


class Machine:
    """This machine in a Ray cluster. InputError where no cluster is, or it is no machine of it.

    address: the cluster's, or auto. node_ip: this machine's there; None: as Ray finds it.
    """

    def __init__(self, address: str, node_ip: str | None):
        from ray._private import services
        from ray._raylet import GcsClient

        try:
            self.cluster = services.canonicalize_bootstrap_address_or_die(address)
            self._client = GcsClient(address=self.cluster)
            nodes = self._client.get_all_node_info().values()
        except Exception as error:  # Ray's own, of several kinds
            said = " ".join(str(error).split())[:200]
            raise InputError(f"--ray-address {address}: no Ray cluster answers ({said}); allowed: HOST:PORT of one, or "
                             "auto on a machine where Ray runs") from None  # fmt: skip
        self.ip = node_ip or services.get_node_ip_address(self.cluster)
        alive = [node for node in nodes if node.state == ALIVE]
        self._ids = [node.node_id.hex() for node in alive if node.node_manager_address == self.ip]
        if not self._ids:
            others = ", ".join(sorted(node.node_manager_address for node in alive))
            raise InputError(f"--node-ip: no machine of the cluster at {self.cluster} is {self.ip}; allowed: {others}")

    def drain(self, notice: Notice) -> None:
        """Tell Ray that it is about to go; tried again until then. InputError where Ray does not take it."""
        from ray.core.generated import autoscaler_pb2

        end = time.time() + notice.seconds
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        for node in self._ids:
            taken, why = self._until(end, lambda id_=node: self._client.drain_node(
                id_, reason, notice.text, int(end * 1000)))  # fmt: skip
            if not taken:
                raise InputError(f"Ray does not drain {self.ip}: {why}")

    @staticmethod
    def _until(end: float, tell: Callable[[], tuple[bool, Any]]) -> tuple[bool, Any]:
        while True:
            try:
                return tell()
            except Exception as error:  # the head may be away for a moment
                if time.time() >= end:
                    return False, error
                time.sleep(1.0)
