import random
from itertools import pairwise

import numpy as np
import pytest

from stages.corpora.duplicates import CHUNK, DuplicateFinder

WORDS = [f"{a}{b}" for a in ("ba", "ce", "di", "fo", "gu", "ha", "ke", "li", "mo", "nu") for b in ("rt", "st", "nd", "lk", "mp", "x", "ss", "ck", "p", "tch")]


def repeats(*texts: str, similarity: float = 0.6) -> list[bool]:
    finder = DuplicateFinder(similarity)
    for text in texts:
        finder.add(text)
    return [bool(found) for found in finder.find()]


def jaccard(a: str, b: str) -> float:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        return {(word,) for word in words} | set(pairwise(words))

    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def posts(n: int, length: int = 20, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=length)) for _ in range(n)]


def test_an_exact_copy_is_found_and_the_first_one_kept() -> None:
    a, b = posts(2)
    assert repeats(a, b, a, b, a) == [False, False, True, True, True]


def test_capitals_and_punctuation_make_no_difference() -> None:
    assert repeats("Tax the rich, cover everyone!", "tax the RICH -- cover everyone") == [False, True]


def test_a_near_copy_is_found() -> None:
    original = posts(1, length=40)[0]
    copy = original + " indeed"
    assert jaccard(original, copy) > 0.9
    assert repeats(original, copy) == [False, True]
    assert repeats(copy, original) == [False, True]


def test_a_loose_copy_is_none() -> None:
    first, second = posts(2, length=40)
    loose = " ".join(first.split()[:20] + second.split()[20:])
    assert 0.2 < jaccard(first, loose) < 0.4
    assert repeats(first, loose) == [False, False]


def test_the_similarity_decides() -> None:
    original = posts(1, length=40)[0].split()
    copy = [*original[:34], "six", "more", "words", "stand", "here", "instead"]
    texts = " ".join(original), " ".join(copy)
    assert 0.65 < jaccard(*texts) < 0.8
    assert repeats(*texts, similarity=0.45) == [False, True]
    assert repeats(*texts, similarity=0.95) == [False, False]


def test_the_same_words_in_another_order_are_no_exact_copy() -> None:
    words = posts(1, length=30)[0].split()
    assert repeats(" ".join(words), " ".join(reversed(words)), similarity=0.9) == [False, False]


def test_unrelated_posts_are_no_duplicates() -> None:
    assert not any(repeats(*posts(1000)))


def test_copies_are_found_across_internal_chunks() -> None:
    texts = posts(CHUNK + 50)
    found = repeats(*texts, texts[0], texts[CHUNK - 1], texts[CHUNK + 3])
    assert found == [False] * len(texts) + [True] * 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_first_of_each_group_stays_wherever_its_copies_are(seed: int) -> None:
    originals = posts(60, seed=seed)
    texts = originals * 3
    random.Random(seed).shuffle(texts)
    seen: set[str] = set()
    expected = []
    for text in texts:
        expected.append(text in seen)
        seen.add(text)
    assert repeats(*texts) == expected


def test_nothing_added_gives_nothing() -> None:
    found = DuplicateFinder(0.6).find()
    assert found.shape == (0,)
    assert found.dtype == np.bool_


def test_asking_again_after_more_texts_compares_with_all() -> None:
    a, b = posts(2)
    finder = DuplicateFinder(0.6)
    finder.add(a)
    assert finder.find().tolist() == [False]
    finder.add(b)
    finder.add(a)
    assert finder.find().tolist() == [False, False, True]
