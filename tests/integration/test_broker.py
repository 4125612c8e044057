"""The Kafka that the tests run on: its nodes die, freeze and come back, and it never outlives its owner."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from tests.support.broker import BrokerError, running

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]


def _answers(bootstrap: str) -> bool:
    try:
        AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=2)
    except KafkaException:
        return False
    return True


def test_a_node_is_killed_restarted_and_paused() -> None:
    with running(settings={"num.partitions": "3", "auto.create.topics.enable": "true"}) as cluster:
        producer = Producer({**cluster.client, "acks": "all", "log_level": 0})
        producer.produce("kept", b"x")
        assert producer.flush(20) == 0
        cluster.kill()
        assert not _answers(cluster.bootstrap)
        cluster.restart()
        assert AdminClient(cluster.client).list_topics(timeout=10).topics["kept"].partitions.keys() == {0, 1, 2}
        cluster.pause()
        assert not _answers(cluster.bootstrap)
        cluster.resume()
        assert _answers(cluster.bootstrap)
        with pytest.raises(BrokerError, match="not a command"):
            cluster.kill(2)


@pytest.mark.parametrize("victim", ["owner", "keeper"])
def test_no_node_outlives_its_owner(victim: str, tmp_path: Path) -> None:
    script = (
        "import time\nfrom tests.support.broker import running\n"
        "with running() as cluster:\n"
        "    print(cluster.bootstrap, cluster.keeper.pid, flush=True)\n    time.sleep(600)\n"
    )
    here = {**os.environ, "TMPDIR": str(tmp_path)}  # a keeper that is killed leaves its files
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, env=here, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        bootstrap, keeper = owner.stdout.readline().split()
        assert _answers(bootstrap)
        os.kill(owner.pid if victim == "owner" else int(keeper), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while _answers(bootstrap):
            assert time.monotonic() < deadline
        owner.kill()


def test_a_machine_without_java_is_told_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.broker", "run"]
    with subprocess.Popen(
        command, cwd=ROOT, env={"PATH": str(tmp_path)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as keeper:
        answer = json.loads(keeper.communicate(timeout=20)[0])
    assert keeper.returncode == 1
    assert "FANOUT_TESTS_WITHOUT_KAFKA=1" in answer["error"]
