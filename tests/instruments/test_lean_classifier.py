import json
from collections import defaultdict
from pathlib import Path

import pytest

from stages.instruments import judges
from stages.instruments.judges import Answer
from stages.instruments.lean_classifier import LeanClassifier

SAMPLE = Path(__file__).parent.parent.parent / "data/sample/lean"


@pytest.fixture(scope="module")
def classifier() -> LeanClassifier:
    return LeanClassifier(judges.read(SAMPLE / "training.jsonl"))


def test_it_ranks_the_gold_statements_with_and_without_names(classifier: LeanClassifier) -> None:
    gold = judges.read(SAMPLE / "gold.jsonl")
    found = judges.agreement(judges.judged(classifier, [Answer(text) for text in gold.texts]), gold)
    assert found["spearman"] > 0.55
    assert found["without_cue"]["spearman"] > 0.5
    assert abs(found["offset"]) < 1
    assert found["without_cue"]["n"] == found["with_cue"]["n"] == 125


def test_scores_stay_in_range_and_silence_is_the_centre(classifier: LeanClassifier) -> None:
    found = classifier.score([Answer(text) for text in ("", "   ", "Tax the billionaires and cover everyone!" * 3)])
    assert found[:2] == pytest.approx([10, 10])
    assert 0 <= found[2] < 10


def test_training_texts_are_balanced_between_the_sides_of_every_topic() -> None:
    training = judges.read(SAMPLE / "training.jsonl")
    by_topic = defaultdict(list)
    for topic, score in zip(training.groups, training.scores, strict=True):
        by_topic[topic].append(score - judges.CENTRE)
    for topic, leans in by_topic.items():
        assert abs(sum(lean < 0 for lean in leans) - sum(lean > 0 for lean in leans)) <= 1, topic
    assert abs(training.scores.mean() - judges.CENTRE) < 0.05


def test_training_and_gold_share_no_text_and_no_passage() -> None:
    def passages(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        return {tuple(words[i : i + 8]) for i in range(len(words) - 7)} | {tuple(words)}

    training, gold = ({passage for text in judges.read(SAMPLE / name).texts for passage in passages(text)} for name in ("training.jsonl", "gold.jsonl"))
    assert not training & gold


def test_ids_are_unique() -> None:
    for name in ("training.jsonl", "gold.jsonl"):
        ids = [json.loads(line)["id"] for line in (SAMPLE / name).read_text().splitlines()]
        assert len(set(ids)) == len(ids)
