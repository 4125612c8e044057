"""The published SDKs against a node that reads and writes a real Kafka: the same promises as over the embedded log."""

import pytest

from tests.support.sdk_changes import ChangePromises
from tests.support.sdk_presence import PresencePromises
from tests.support.sdk_promises import SdkPromises

pytestmark = pytest.mark.kafka


@pytest.mark.node
@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestNodeSdkOverKafka(ChangePromises, PresencePromises, SdkPromises):
    kind = "node"
    log = "kafka"


@pytest.mark.node
@pytest.mark.browser
@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestBrowserSdkOverKafka(PresencePromises, SdkPromises):
    kind = "browser"
    log = "kafka"


@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestPythonSdkOverKafka(PresencePromises, SdkPromises):
    kind = "python"
    log = "kafka"
