"""What a cloud says of a spot machine that it takes back, told to Ray as a drain. Ray itself asks no cloud.

Sources: AWS, "Spot Instance interruption notices" (two minutes; instance metadata, IMDSv2); Google Cloud, "Preemptible
VM instances", "Detecting if a VM was preempted" (30 s); Azure, "Scheduled Events for Linux VMs" (30 s).
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from losstune.spaces import InputError

EVERY_SECONDS = 2.0  # between looks: a cloud gives as little as half a minute
PATIENCE_SECONDS = 3.0  # for an answer
ALIVE = 0  # a machine's state, in Ray's terms
TOKEN_SECONDS = 21600  # that a token of AWS's metadata service is asked to last


@dataclass(frozen=True)
class Notice:
    """A machine is taken back: in so many seconds, in words."""

    seconds: float
    text: str


Ask = Callable[[str, Mapping[str, str], str], str | None]  # (path, headers, method) -> the answer; None: there is none


@dataclass(frozen=True)
class Source:
    """Where a cloud tells its machines of it. look: asks, and returns the notice if there is one."""

    endpoint: str
    look: Callable[[Ask], Notice | None]


def _aws(ask: Ask) -> Notice | None:
    token = ask("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}, "PUT")
    said = token and ask("/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token}, "GET")
    if not said:
        return None
    action = json.loads(said)
    when = datetime.fromisoformat(action["time"].replace("Z", "+00:00"))
    return _notice(when, f"AWS is to {action['action']} this machine")


def _gcp(ask: Ask) -> Notice | None:
    said = ask("/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"}, "GET")
    return Notice(30.0, "Google Cloud takes this machine back") if said and said.strip() == "TRUE" else None


def _azure(ask: Ask) -> Notice | None:
    said = ask("/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"}, "GET")
    for event in json.loads(said)["Events"] if said else ():
        if event["EventType"] == "Preempt":
            text, when = "Azure takes this machine back", event["NotBefore"]
            return _notice(parsedate_to_datetime(when), text) if when else Notice(30.0, text)
    return None


CLOUDS = {
    "aws": Source("http://169.254.169.254", _aws),
    "gcp": Source("http://metadata.google.internal", _gcp),
    "azure": Source("http://169.254.169.254", _azure),
}


def _notice(when: datetime, text: str) -> Notice:
    return Notice(max(0.0, when.timestamp() - time.time()), f"{text} at {when:%H:%M:%S} UTC")


def wait_for(cloud: str, endpoint: str | None = None) -> Notice:
    """Ask until there is a notice; an endpoint that does not answer is asked again. InputError for other clouds."""
    if cloud not in CLOUDS:
        raise InputError(f"--cloud {cloud}: not known; allowed: {', '.join(CLOUDS)}")
    source = CLOUDS[cloud]
    at = (endpoint or source.endpoint).rstrip("/")

    def ask(path: str, headers: Mapping[str, str], method: str) -> str | None:
        request = urllib.request.Request(at + path, headers=dict(headers), method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.read().decode()

    while True:
        try:
            notice = source.look(ask)
        except (OSError, ValueError, KeyError):  # no answer, 404: no notice, or one that says something else
            notice = None
        if notice is not None:
            return notice
        time.sleep(EVERY_SECONDS)


def drain(address: str, node_ip: str | None, notice: Notice) -> None:
    """Tell Ray that this machine is about to go. InputError where no cluster, or no such machine, is there."""
    from ray._private import services
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    try:
        found = services.canonicalize_bootstrap_address_or_die(address)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"--ray-address {address}: {' '.join(str(error).split())}; allowed: HOST:PORT") from None
    client, own = GcsClient(address=found), node_ip or services.get_node_ip_address()
    nodes = [node for node in client.get_all_node_info().values()
             if node.state == ALIVE and node.node_manager_address == own]  # fmt: skip
    if not nodes:
        raise InputError(f"--node-ip {own}: no machine of the cluster at {found} has this address")
    for node in nodes:
        accepted, why = client.drain_node(
            node.node_id.hex(), autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"), notice.text,
            int((time.time() + notice.seconds) * 1000),
        )  # fmt: skip
        if not accepted:
            raise InputError(f"Ray does not drain {own}: {why}")
