"""What clouds say of a spot machine that they take back. What a study does then: the faults, and tests/cluster."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from metadata import MetadataService

from losstune.search import preemption
from losstune.spaces import InputError

AWS_TOKEN, AWS_ACTION = ("PUT", "/latest/api/token"), ("GET", "/latest/meta-data/spot/instance-action")
STOP = '{"action": "stop", "time": "2026-01-01T00:00:00Z"}'
GCP = "GET", "/computeMetadata/v1/instance/preempted"
AZURE = "GET", "/metadata/scheduledevents?api-version=2020-07-01"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(preemption, "EVERY_SECONDS", 0.01)


def soon(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def azure_events(kind, when):
    return f'{{"Events": [{{"EventType": "{kind}", "NotBefore": "{when}"}}]}}'


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
    with MetadataService({AZURE: azure_events("Preempt", format_datetime(soon(25), usegmt=True))}) as service:
        notice = preemption.wait_for("azure", service.endpoint)
    assert 22 < notice.seconds <= 25 and notice.text.startswith("Azure takes this machine back at")
    assert service.asked[0][2]["Metadata"] == "true"


@pytest.mark.parametrize(
    ("cloud", "before", "after"),
    [
        ("aws", {AWS_TOKEN: "t"}, {AWS_ACTION: STOP}),
        ("aws", {}, {AWS_TOKEN: "t", AWS_ACTION: STOP}),
        ("aws", {AWS_TOKEN: "t", AWS_ACTION: "not json"}, {AWS_ACTION: STOP}),
        ("gcp", {GCP: "FALSE"}, {GCP: "TRUE"}),
        ("azure", {AZURE: '{"Events": []}'}, {AZURE: azure_events("Preempt", "")}),
        ("azure", {AZURE: azure_events("Reboot", "")}, {AZURE: azure_events("Preempt", "")}),
    ],
)  # fmt: skip
def test_it_waits_as_long_as_there_is_no_notice(cloud, before, after):
    found = []
    with MetadataService(before) as service:
        waiting = threading.Thread(target=lambda: found.append(preemption.wait_for(cloud, service.endpoint)))
        waiting.start()
        while len(service.asked) < 4:
            waiting.join(0.01)
        assert not found
        service.answers.update(after)
        waiting.join(60)
    assert len(found) == 1


def test_a_service_that_is_not_there_yet_is_asked_again():
    with MetadataService() as gone:
        endpoint = gone.endpoint
    found = []
    waiting = threading.Thread(target=lambda: found.append(preemption.wait_for("gcp", endpoint)), daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive() and not found


def test_other_clouds_are_refused():
    with pytest.raises(InputError, match="--cloud moon: not known; allowed: aws, gcp, azure"):
        preemption.wait_for("moon")


def test_the_command_says_what_is_wrong(losstune):
    said = losstune("drain-on-notice", "--cloud", "moon")
    assert (said.status, said.err) == (2, "losstune: --cloud moon: not known; allowed: aws, gcp, azure\n")
