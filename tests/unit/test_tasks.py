"""Tasks that a node needs: one that ends is told of, counted, and a reason not to be ready."""

import asyncio
from pathlib import Path

import pytest

from fanout import Config, Server
from fanout.tasks import Tasks
from tests.support.sources import eventually


async def forever() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise RuntimeError("nobody expected this")


async def returns() -> None:
    pass


async def test_while_all_run_nothing_is_wrong() -> None:
    tasks = Tasks()
    tasks.start("presence", forever())
    await asyncio.sleep(0)
    assert (tasks.failed, tasks.failure) == (0, "")
    tasks.close()


async def test_one_that_fails_is_told_of_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    tasks.start("presence", fails())
    tasks.start("sessions", forever())
    await eventually(lambda: tasks.failed)
    assert tasks.failure == "presence is looked after no more: RuntimeError('nobody expected this')"
    assert "presence is looked after no more" in caplog.text
    assert "nobody expected this" in caplog.text
    tasks.start("leases", fails())
    await eventually(lambda: tasks.failed == 2)
    assert tasks.failure.startswith("presence"), "the first one says most"
    tasks.close()


async def test_one_that_somebody_else_cancels_is_missed_and_one_that_has_nothing_to_do_is_not() -> None:
    tasks = Tasks()
    tasks.start("what is read on demand", returns())
    tasks.start("sessions", forever())
    await asyncio.sleep(0)
    next(task for task in asyncio.all_tasks() if task.get_name() == "sessions").cancel()
    await eventually(lambda: tasks.failed)
    assert (tasks.failed, tasks.failure) == (1, "sessions is looked after no more: CancelledError()")


async def test_the_end_of_the_node_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    tasks.start("presence", forever())
    await asyncio.sleep(0)
    tasks.close()
    await eventually(lambda: not any(task.get_name() == "presence" for task in asyncio.all_tasks()))
    assert (tasks.failed, tasks.failure, caplog.text) == (0, "", "")


async def test_a_node_whose_task_has_ended_is_not_ready(tmp_path: Path) -> None:
    async with Server(Config(port=0, data=tmp_path)) as server:
        await server.ready()
        assert server.health().ok
        server._node.tasks.start("what is tested", fails())
        await eventually(lambda: not server.health().ok)
        assert server.health().reason.startswith("what is tested is looked after no more")
        page = server._node.metrics.render().decode()
        assert "fanout_tasks_failed_total 1.0" in page
        assert "fanout_ready 0.0" in page
