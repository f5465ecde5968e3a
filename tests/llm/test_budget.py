import anyio
import pytest

from stages.core.errors import InputError
from stages.llm.budget import Budget


def test_what_is_set_aside_and_spent_stays_within_the_limit() -> None:
    budget = Budget(100)
    assert budget.take(60)
    assert not budget.take(41)
    budget.settle(60, 20)
    assert budget.spent == 20
    assert budget.take(80)


def test_without_a_limit_tokens_are_only_counted() -> None:
    budget = Budget()
    assert budget.take(10**9)
    budget.settle(10**9, 5)
    assert budget.spent == 5


def test_a_request_waits_while_others_may_turn_out_smaller() -> None:
    budget = Budget(100)
    order = []

    async def waiting() -> None:
        await budget.reserve(50)
        order.append("second")

    async def main() -> None:
        await budget.reserve(80)
        async with anyio.create_task_group() as group:
            group.start_soon(waiting)
            await anyio.wait_all_tasks_blocked()
            order.append("first")
            budget.settle(80, 10)

    anyio.run(main)
    assert order == ["first", "second"]


def test_a_request_that_fits_nowhere_is_refused() -> None:
    budget = Budget(100)
    budget.take(90)
    budget.settle(90, 90)
    with pytest.raises(InputError, match="90 of 100 tokens are used, and the next request may take 11"):
        anyio.run(budget.reserve, 11)
