"""What clouds say of a spot machine that they take back. What a study does then: the faults, and tests/cluster."""

import contextlib
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from metadata import MetadataService

from losstune.search import preemption

AWS_TOKEN, AWS_ACTION = ("PUT", "/latest/api/token"), ("GET", "/latest/meta-data/spot/instance-action")
STOP = '{"action": "stop", "time": "2026-01-01T00:00:00Z"}'
GCP = "GET", "/computeMetadata/v1/instance/preempted"
AZURE_NAME = "GET", "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
AZURE = "GET", "/metadata/scheduledevents?api-version=2020-07-01"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(preemption, "EVERY_SECONDS", 0.01)


def soon(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def azure_events(kind, when, resources="this-one"):
    return f'{{"Events": [{{"EventType": "{kind}", "NotBefore": "{when}", "Resources": ["{resources}"]}}]}}'


def test_aws_says_what_and_when_to_who_shows_a_token():
    when = soon(110)
    answers = {AWS_TOKEN: "secret", AWS_ACTION: f'{{"action": "terminate", "time": "{when:%Y-%m-%dT%H:%M:%SZ}"}}'}
    with MetadataService(answers) as service:
        notice = preemption.wait_for("aws", service.endpoint)
    assert 108 < notice.seconds <= 110
    assert notice.text == f"AWS is to terminate this machine at {when:%H:%M:%S} UTC"
    (_, _, headers), (_, _, shown) = service.asked
    lower = {name.lower(): value for name, value in headers.items()}
    assert 1 <= int(lower["x-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
    assert {name.lower(): value for name, value in shown.items()}["x-aws-ec2-metadata-token"] == "secret"


def test_google_says_that_it_has_begun():
    with MetadataService({GCP: "TRUE"}) as service:
        assert preemption.wait_for("gcp", service.endpoint).seconds == 30
    assert service.asked[0][2]["Metadata-Flavor"] == "Google"


def test_azure_says_when():
    events = azure_events("Preempt", format_datetime(soon(25), usegmt=True))
    with MetadataService({AZURE: events, AZURE_NAME: "this-one"}) as service:
        notice = preemption.wait_for("azure", service.endpoint)
    assert 22 < notice.seconds <= 25 and notice.text.startswith("Azure takes this machine back at")
    assert service.asked[0][2]["Metadata"] == "true"


@pytest.mark.parametrize(
    ("cloud", "said"),
    [("aws", {AWS_TOKEN: "t", AWS_ACTION: '{"action": "stop"}'}),
     ("aws", {AWS_TOKEN: "t", AWS_ACTION: '{"action": "stop", "time": null}'}),
     ("azure", {AZURE: azure_events("Preempt", ""), AZURE_NAME: "this-one"})],
)  # fmt: skip
def test_a_notice_whose_time_cannot_be_read_is_one(cloud, said):
    with MetadataService(said) as service:
        assert preemption.wait_for(cloud, service.endpoint).seconds == 30


@pytest.mark.parametrize(
    ("cloud", "before", "after"),
    [
        ("aws", {AWS_TOKEN: "t"}, {AWS_ACTION: STOP}),
        ("aws", {}, {AWS_TOKEN: "t", AWS_ACTION: STOP}),
        ("aws", {AWS_TOKEN: "t", AWS_ACTION: "not json"}, {AWS_ACTION: STOP}),
        ("aws", {AWS_TOKEN: "t", AWS_ACTION: "[]"}, {AWS_ACTION: STOP}),
        ("gcp", {GCP: "FALSE"}, {GCP: "TRUE"}),
        ("azure", {AZURE: '{"Events": []}', AZURE_NAME: "this-one"}, {AZURE: azure_events("Preempt", "")}),
        ("azure", {AZURE: "[]", AZURE_NAME: "this-one"}, {AZURE: azure_events("Preempt", "")}),
        ("azure", {AZURE: azure_events("Reboot", ""), AZURE_NAME: "this-one"}, {AZURE: azure_events("Preempt", "")}),
        ("azure", {AZURE: azure_events("Preempt", "", "another"), AZURE_NAME: "this-one"},
         {AZURE: azure_events("Preempt", "")}),
    ],
)  # fmt: skip
def test_it_waits_as_long_as_there_is_no_notice(cloud, before, after):
    with MetadataService(before) as service, waiting(cloud, service.endpoint) as found:
        until(lambda: len(service.asked) >= 6)
        assert not found
        service.answers.update(after)
        until(lambda: found)


def test_a_service_that_is_not_there_yet_is_asked_again():
    with MetadataService() as gone:
        port = int(gone.endpoint.rpartition(":")[2])
    with waiting("gcp", gone.endpoint) as found:
        time.sleep(0.2)
        assert not found
        with MetadataService({GCP: "TRUE"}, port):
            until(lambda: found)


def test_no_proxy_is_asked(monkeypatch):
    with MetadataService() as proxy, MetadataService({GCP: "TRUE"}) as service:
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        preemption.wait_for("gcp", service.endpoint)
        assert not proxy.asked


@contextlib.contextmanager
def waiting(cloud, endpoint):
    """The notices found meanwhile, of which the first ends it."""
    found = []
    thread = threading.Thread(target=lambda: found.append(preemption.wait_for(cloud, endpoint)), daemon=True)
    thread.start()
    yield found
    thread.join(60)
    assert not thread.is_alive() and len(found) == 1


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--cloud", "moon"], "--cloud moon: not known; allowed: aws, gcp, azure"),
        *((["--cloud", "aws", "--endpoint", bad],
           f"--endpoint {bad!r}: no address of a service; allowed: http://HOST or http://HOST:PORT")
          for bad in ("nonsense", "", "http://127.0.0.1:99999", "http://a b", "ftp://a", "http://")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_once(losstune, options, line):
    said = losstune("drain-on-notice", *options)
    assert (said.status, said.err) == (2, f"losstune: {line}\n")
