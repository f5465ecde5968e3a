import numpy as np
import pytest

from stages.instruments.affect.alignments import of_model, of_people, of_topics
from stages.instruments.affect.samples import GROUPS, Post, Topic, Who, by_issue, by_topic, models, people

K, TOPICS = 8, [("covid", str(i)) for i in range(4)]
LIKE = dict(zip(GROUPS, np.random.default_rng(8).dirichlet(np.ones(K), 2), strict=True))


def posts(who: Who, like: np.ndarray, each: int, seed: int, topics: list[Topic] = TOPICS) -> list[Post]:
    """``each`` posts with one label on each topic, two in a cluster."""
    random = np.random.default_rng(seed)
    return [Post(who, (topic,), str(i // 2), np.eye(K)[random.choice(K, p=like)]) for topic in topics for i in range(each)]


def groups(each: int = 60) -> list[Post]:
    return [post for seed, group in enumerate(GROUPS) for post in posts((group, ""), LIKE[group], each, seed)]


def test_posts_count_if_they_are_kept_and_for_each_of_their_topics() -> None:
    weights = {name: np.array([1.0, 0]) for name in "abcd"}
    row = {"status": "kept", "group": "liberal", "author": "ann", "issue": "covid", "topics": ["masking", "schools"]}
    rows = [{**row, "id": "a"}, {**row, "id": "b", "group": "unknown"}, {**row, "id": "c", "status": "duplicate"}, {**row, "id": "d", "topics": []}]
    found = people(rows, weights)
    assert [post.topics for post in found] == [(("covid", "masking"), ("covid", "schools"))]
    assert set(by_topic(found)["liberal", ""]) == {("covid", "masking"), ("covid", "schools")}
    assert by_issue(found)["liberal", ""]["covid"].n == 1
    said = {"id": "a", "status": "kept", "model": "base", "steering": "none", "issue": "covid", "topic": "masking", "wording": 3}
    assert [(post.who, post.cluster) for post in models([said, {**said, "status": "empty"}], weights)] == [(("base", "none"), "3")]


def test_posts_without_a_label_make_no_sample() -> None:
    assert by_topic([Post(("base", "none"), (TOPICS[0],), "1", np.zeros(K))]) == {("base", "none"): {}}


def test_a_model_that_writes_like_a_group_scores_at_its_floor_and_is_nearest_to_it() -> None:
    copies = [post for group in GROUPS for post in posts(("m", group), LIKE[group], 60, 5)]
    topics = of_topics(by_topic([*groups(), *copies]), 10, 1, 300)
    assert {topic.n for topic in topics.values()} == {30}
    _, floors = of_people(topics, 1)
    for group, other, sign in (("liberal", "conservative", 1), ("conservative", "liberal", -1)):
        found = of_model(topics, ("m", group), 1)
        assert found["topics"] == 4
        assert found[group]["value"] > 0.85 > found[other]["value"]
        assert found[group]["raw"] == pytest.approx(floors[group]["value"], abs=0.05)
        assert sign * found["tendency"]["low"] > 0
        assert sign * found["tendency"]["high"] > 0


def test_swapping_the_groups_swaps_the_tendency() -> None:
    swap = dict(zip(GROUPS, reversed(GROUPS), strict=True))
    model = posts(("m", "none"), 0.7 * LIKE["liberal"] + 0.3 * LIKE["conservative"], 60, 5)
    there = groups()
    back = [Post((swap[post.who[0]], ""), post.topics, post.cluster, post.weights) for post in there]
    first, second = (of_model(of_topics(by_topic([*of_people_, *model]), 10, 1, 300), ("m", "none"), 1) for of_people_ in (there, back))
    assert first["tendency"]["value"] > 0
    assert second["tendency"]["value"] == pytest.approx(-first["tendency"]["value"], abs=0.01)
    assert second["liberal"]["value"] == pytest.approx(first["conservative"]["value"], abs=0.01)


def test_steering_that_reaches_a_group_gains() -> None:
    unsteered = posts(("m", "none"), np.full(K, 1 / K), 60, 5)
    steered = posts(("m", "liberal"), LIKE["liberal"], 60, 6)
    topics = of_topics(by_topic([*groups(), *unsteered, *steered]), 10, 1, 300)
    assert of_model(topics, ("m", "liberal"), 1)["gain"]["low"] > 0
    assert "gain" not in of_model(topics, ("m", "none"), 1)
    assert of_model(topics, ("m", "none"), 1)["entropy_gap"]["low"] > 0


def test_topics_with_too_few_posts_have_no_figures() -> None:
    few = posts(("m", "none"), LIKE["liberal"], 4, 5, TOPICS[:1]) + posts(("m", "none"), LIKE["liberal"], 20, 5, TOPICS[1:])
    topics = of_topics(by_topic([*groups(), *few]), 10, 1, 100)
    assert ("m", "none") not in topics[TOPICS[0]].models
    assert of_model(topics, ("m", "none"), 1)["topics"] == 3
    assert of_model(topics, ("other", "none"), 1) == {"topics": 0}
    assert of_topics(by_topic([*posts(("liberal", ""), LIKE["liberal"], 20, 1), *few]), 10, 1, 100) == {}
    assert of_people({}, 1) == ({"topics": 0}, {"topics": 0})
