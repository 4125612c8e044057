"""The `ably` package from PyPI, in a process of its own, against a server of its own process."""

import pytest

from tests.support.sdk_presence import PresencePromises
from tests.support.sdk_promises import SdkPromises


@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestPythonSdk(PresencePromises, SdkPromises):
    kind = "python"
