"""What modes entitle to."""

import pytest

from fanout.session.kinds import Kinds, kinds_of
from fanout.wire import Flag


class TestTheKindsOfAnAttachment:
    @pytest.mark.parametrize(
        ("granted", "kinds"),
        [
            (0, Kinds(0)),
            (Flag.ANNOTATION_PUBLISH, Kinds(0)),
            (Flag.PUBLISH, Kinds.PUBLISH),
            (Flag.SUBSCRIBE, Kinds.MESSAGES),
            (Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE, Kinds.MESSAGES | Kinds.PRESENCE),
            (Flag.PRESENCE, Kinds.OWN_PRESENCE),
            (Flag.ANNOTATION_SUBSCRIBE, Kinds.ANNOTATIONS),
        ],
    )
    def test_are_those_of_its_modes(self, granted: int, kinds: Kinds) -> None:
        assert kinds_of(granted) == kinds
