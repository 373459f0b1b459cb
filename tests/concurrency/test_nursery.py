import pytest
import trio

from runmgr.concurrency import BareNursery


async def crash():
    raise LookupError("crash")


async def test_tasks_end_with_the_body(autojump_clock):
    async with BareNursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
    assert trio.current_time() == 0


async def test_or_are_waited_for(autojump_clock):
    async with BareNursery(wait=True) as nursery:
        nursery.start_soon(trio.sleep, 3)
    assert trio.current_time() == 3


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(
    "error", [ValueError("mine"), ExceptionGroup("mine", [ValueError()]), KeyboardInterrupt()]
)
async def test_an_exception_of_the_body_comes_out_as_it_is(error, wait):
    with pytest.raises(type(error)) as caught:
        async with BareNursery(wait=wait) as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error
    assert caught.value is error


async def test_an_exception_of_the_body_outlives_outer_cancellation():
    with pytest.raises(ValueError, match="mine"):
        with trio.CancelScope() as scope:
            async with BareNursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                scope.cancel()
                raise ValueError("mine")


async def test_a_failed_task_is_an_internal_error_with_the_group_as_its_cause():
    with pytest.raises(RuntimeError, match="the cook has left") as caught:
        async with BareNursery("the cook has left") as nursery:
            nursery.start_soon(crash)
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__.exceptions[0], LookupError)


async def test_a_task_that_fails_while_the_body_raises():
    async def crash_when_cancelled():
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError("crash")

    with pytest.raises(RuntimeError, match="a background task failed") as caught:
        async with BareNursery() as nursery:
            nursery.start_soon(crash_when_cancelled)
            await trio.testing.wait_all_tasks_blocked()
            raise ValueError("mine")
    assert isinstance(caught.value.__cause__.exceptions[0], LookupError)


async def test_outer_cancellation_passes_through(autojump_clock):
    cleaned = []

    async def task():
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(True)

    with trio.move_on_after(1) as scope:
        async with BareNursery() as nursery:
            nursery.start_soon(task)
            await trio.sleep_forever()
        pytest.fail("went on")
    assert scope.cancelled_caught
    assert cleaned == [True]


async def test_a_group_that_holds_the_nurserys_own_cancellation_loses_that():
    async def fail_when_cancelled():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("mine")

    with pytest.raises(ExceptionGroup) as caught:  # not a BaseExceptionGroup: no Cancelled is left in it
        async with BareNursery(wait=True) as nursery:
            async with trio.open_nursery() as inner:
                inner.start_soon(fail_when_cancelled)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
                await trio.sleep_forever()
    assert caught.group_contains(ValueError, match="mine")


async def test_cancelling_the_nursery_itself_ends_the_block():
    async with BareNursery(wait=True) as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()
        await trio.sleep_forever()
