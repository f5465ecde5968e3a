"""Respondents to interviews: a persona, a question, options in some order, and what the respondent answered.

in   data/survey/respondents.parquet, the survey's codebook
out  data/interviews/train.parquet, data/interviews/test.parquet: id, respondent, item, wording, persona, question, options, order, answer, weight, split,
     synthetic, one column a demographic

``answer`` is the place of the respondent's answer among ``options``, ``order`` the place of each option on the codebook's scale. Respondents are
divided once, by a hash of their id, so that more respondents leave the others where they are; whole items are held out too. ``split`` is

- ``train``: respondents and items to train on. Only here, and only if asked for, synthetic respondents are added.
- ``respondents``: respondents held out, about items that were trained on.
- ``items``: respondents held out, about items held out.

What the other respondents answered to items held out is used for nothing.
"""

import random
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic

from stages.core import command, params, tables
from stages.core.errors import InputError
from stages.core.files import short_hash
from stages.core.params import Section
from stages.data import survey as surveying
from stages.surveys import codebook, interviews, personas
from stages.surveys.balancing import Balance, Row, synthesize
from stages.surveys.codebook import Question, Survey
from stages.surveys.personas import Wordings


class Params(Section):
    """``params.yaml: interview``."""

    topics: tuple[str, ...]
    held_out_items: Literal["codebook"] | tuple[str, ...]
    held_out_respondents: float = pydantic.Field(gt=0, lt=1)
    wordings: int = pydantic.Field(ge=1)
    orders: Literal["both", "all"]
    train_variants: int = pydantic.Field(ge=1)
    test_variants: int = pydantic.Field(ge=1)
    unstated: tuple[str, ...]
    balance: Balance
    seed: int


def choose_items(survey: Survey, settings: Params) -> tuple[list[Question], list[Question]]:
    """The items to train on and those held out.

    :raises InputError: if a topic, an item or a demographic of the parameters is not in the codebook, or no item is left to train on.
    """
    topics = dict.fromkeys(item.topic for item in survey.items.values())
    wrong: list[tuple[str, str, Collection[str]]] = [("topics", name, topics) for name in settings.topics if name not in topics]
    wrong += [("unstated", name, survey.demographics) for name in settings.unstated if name not in survey.demographics]
    items = [item for item in survey.items.values() if not settings.topics or item.topic in settings.topics]
    if settings.held_out_items != "codebook":
        names = [item.name for item in items]
        wrong += [("held_out_items", name, names) for name in settings.held_out_items if name not in names]
    if wrong:
        raise InputError("params.yaml:\n" + "\n".join(f"  interview.{key}: {survey.name} has no '{name}' to choose, only {', '.join(known)}." for key, name, known in wrong))
    held_out = [item for item in items if (item.held_out if settings.held_out_items == "codebook" else item.name in settings.held_out_items)]
    trained = [item for item in items if item not in held_out]
    if not trained:
        raise InputError("params.yaml: interview.held_out_items leaves no item to train on. Hold out fewer, or take more topics.")
    return trained, held_out


def is_held_out(respondent: str, settings: Params) -> bool:
    """Whether a respondent (by id) is kept from training."""
    return int(short_hash("split", settings.seed, respondent), 16) < settings.held_out_respondents * 2**64


def options_in_order(item: Question, key: str, variant: int, settings: Params) -> list[int]:
    """The places of the item's options on its scale in the order in which they are shown.

    ``both``: along the scale or against it; ``all``: any order. Drawn anew for every second variant; the variant after it has the same order backwards, so that
    no place is favoured.
    """
    order = list(range(len(item.scale.labels)))
    draw = random.Random(short_hash("order", settings.seed, key, variant // 2))
    if settings.orders == "all":
        draw.shuffle(order)
    backwards = bool(variant % 2) != (settings.orders == "both" and draw.random() < 0.5)
    return order[::-1] if backwards else order


def ask(row: Row, item: Question, said: Sequence[tuple[str, str]], variants: int, settings: Params) -> Iterator[dict[str, Any]]:
    """One respondent's answer to one item, ``variants`` times: each with another order of the options, and the next wording of the persona."""
    key = short_hash(row["id"], item.name)
    first = int(short_hash("wording", settings.seed, key), 16)
    labels = item.scale.labels
    for variant in range(variants):
        order = options_in_order(item, key, variant, settings)
        wording, persona = said[(first + variant) % len(said)]
        yield {
            "id": short_hash(key, variant),
            "respondent": row["id"],
            "item": item.name,
            "wording": wording,
            "persona": persona,
            "question": item.question,
            "options": [labels[place] for place in order],
            "order": order,
            "answer": order.index(labels.index(row[item.name])),
            "weight": row["weight"],
        }


def interview(rows: Sequence[Row], items: Sequence[Question], split: str, survey: Survey, wordings: Wordings, settings: Params) -> list[dict[str, Any]]:
    """What ``rows`` (respondents) answered to ``items``, as rows of the table."""
    variants = settings.train_variants if split == "train" else settings.test_variants
    stated = {name: known for name, known in survey.demographics.items() if name not in settings.unstated}
    found = []
    for row in rows:
        said = wordings.personas(row, stated, settings.wordings)
        more = {"split": split, "synthetic": row.get("synthetic", False)} | {name: row[name] for name in survey.demographics}
        found += [answer | more for item in items if row[item.name] is not None for answer in ask(row, item, said, variants, settings)]
    return found


def divide(respondents: Sequence[Row], survey: Survey, wordings: Wordings, settings: Params) -> Mapping[str, list[dict[str, Any]]]:
    """The interviews of each split, by its name.

    :raises InputError: if a split would be empty.
    """
    trained, held_out = choose_items(survey, settings)
    kept = [row for row in respondents if row["status"] == "kept"]
    training = [row for row in kept if not is_held_out(row["id"], settings)]
    testing = [row for row in kept if is_held_out(row["id"], settings)]
    if not training or not testing:
        raise InputError(f"of {len(kept)} respondents, {len(testing)} are held out. Give more respondents, or another interview.held_out_respondents.")
    if settings.balance.active:
        training += synthesize(training, survey, settings.balance, settings.seed)
    parts: list[tuple[str, list[Row], list[Question]]] = [("train", training, trained), ("respondents", testing, trained), ("items", testing, held_out)]
    return {split: interview(rows, items, split, survey, wordings, settings) for split, rows, items in parts}


def main(source: Path, book: Path, train: Path, test: Path) -> None:
    """Interview the respondents of one survey."""
    settings, edition = params.load("interview", Params), params.load("survey", surveying.Params).edition
    survey = codebook.load(book, edition)
    wordings = personas.load(Path("prompts/interview.yaml"))
    if settings.wordings > len(wordings.wordings):
        raise InputError(f"params.yaml: interview.wordings: prompts/interview.yaml has {len(wordings.wordings)}, not {settings.wordings}.")
    splits = divide(tables.read(source, surveying.schema(survey)).to_pylist(), survey, wordings, settings)
    interviews.write(train, splits["train"], survey.demographics, settings.unstated)
    interviews.write(test, [*splits["respondents"], *splits["items"]], survey.demographics, settings.unstated)
    print(f"interview {survey.name}: rows: " + ", ".join(f"{len(rows)} {split}" for split, rows in splits.items()), file=sys.stderr)
    if settings.balance.active:
        synthetic = {row["respondent"]: row[settings.balance.by] for row in splits["train"] if row["synthetic"]}
        print(f"interview: synthetic respondents by {settings.balance.by}: {dict(Counter(synthetic.values()))}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
