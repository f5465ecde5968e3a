from stages.llm.memory import Memory


def memory(cells: int, sequences: range = range(1, 5), at_once: int = 4) -> tuple[Memory, list[int]]:
    forgotten: list[int] = []
    return Memory(cells, sequences, at_once, forgotten.append), forgotten


def test_sequences_begin_until_the_cells_are_reserved() -> None:
    found, _ = memory(cells=10)
    assert [found.begin(4), found.begin(4), found.begin(4)] == [1, 2, None]


def test_no_more_are_written_at_once_than_allowed() -> None:
    found, _ = memory(cells=100, at_once=2)
    assert [found.begin(1), found.begin(1), found.begin(1)] == [1, 2, None]


def test_an_ended_sequence_keeps_its_cells_while_there_are_others() -> None:
    found, forgotten = memory(cells=10)
    found.begin(4)
    found.begin(2)
    found.end(1, 4)
    assert found.begin(4) == 3
    assert forgotten == []


def test_an_ended_sequence_gives_its_cells_back_when_they_are_needed() -> None:
    found, forgotten = memory(cells=10)
    found.begin(4)
    found.begin(4)
    found.end(1, 4)
    assert found.begin(4) == 1
    assert forgotten == [1]


def test_an_ended_sequence_holds_only_the_cells_that_it_used() -> None:
    found, forgotten = memory(cells=10)
    found.begin(4)
    found.begin(4)
    found.end(1, 2)
    assert found.begin(4) == 3
    assert forgotten == []


def test_ended_sequences_are_used_again_when_all_have_been() -> None:
    found, forgotten = memory(cells=100, sequences=range(1, 3))
    found.begin(1)
    found.begin(1)
    found.end(2, 1)
    assert found.begin(1) == 2
    assert forgotten == [2]


def test_memory_is_emptied_as_soon_as_nothing_is_written() -> None:
    found, forgotten = memory(cells=100)
    found.begin(1)
    found.end(1, 1)
    assert found.begin(1) == 1
    assert forgotten == [1]
