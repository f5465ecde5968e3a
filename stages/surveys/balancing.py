"""More respondents of rare groups, by SMOTE-NC.

Chawla, Bowyer, Hall and Kegelmeyer 2002, "SMOTE: Synthetic Minority Over-sampling Technique", Journal of Artificial Intelligence Research 16:321,
section 6.1, as imbalanced-learn has it. A synthetic respondent lies between a real one and one of its nearest neighbours in the same group: numbers are
interpolated, everything else, answers included, is what most of the neighbours have. Majorities make a group more uniform than it is: in the sample of the
General Social Survey, answers of synthetic respondents have about .6 of the variance of real ones. That is why balancing is off by default.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pydantic
from imblearn.over_sampling import SMOTEN, SMOTENC

from stages.core.errors import InputError
from stages.core.files import short_hash
from stages.core.params import Section
from stages.surveys.codebook import Survey

Row = Mapping[str, Any]


class Balance(Section):
    """``params.yaml: interview.balance``."""

    active: bool
    by: str
    to: float = pydantic.Field(gt=0, le=1)
    neighbours: int = pydantic.Field(ge=1)


def goals(groups: Sequence[str | None], settings: Balance) -> dict[str, int]:
    """How many respondents each group is to have that has fewer than ``to`` times the largest.

    A group needs more members than there are neighbours; smaller ones stay as they are.
    """
    counts = Counter(group for group in groups if group is not None)
    goal = int(settings.to * max(counts.values(), default=0))
    return {group: goal for group, n in sorted(counts.items()) if settings.neighbours < n < goal}


def synthesize(respondents: Sequence[Row], survey: Survey, settings: Balance, seed: int) -> list[dict[str, Any]]:
    """Synthetic respondents, in addition to ``respondents`` (rows of ``data/survey/respondents.parquet``, of the training split alone).

    Respondents of an unknown group, or with an unknown number, are no neighbours to anybody. A synthetic respondent weighs as much as its group does on
    average.

    :raises InputError: if nothing is called ``balance.by``.
    """
    if settings.by not in survey.demographics:
        raise InputError(f"params.yaml: interview.balance.by: {survey.name} has no '{settings.by}', only {', '.join(survey.demographics)}.")
    numbers = [f"{name}_number" for name in survey.numbers]
    labels = [name for name in (*survey.demographics, *survey.items) if name != settings.by and name not in survey.numbers]
    usable = [row for row in respondents if row[settings.by] is not None and all(row[name] is not None for name in numbers)]
    groups = [row[settings.by] for row in usable]
    wanted = goals(groups, settings)
    if not wanted:
        return []
    table = np.array([[*(row[name] for name in numbers), *(row[name] or "" for name in labels)] for row in usable], dtype=object)
    options: dict[str, Any] = {"sampling_strategy": wanted, "k_neighbors": settings.neighbours, "random_state": seed}
    sampler = SMOTENC(categorical_features=list(range(len(numbers), table.shape[1])), **options) if numbers else SMOTEN(**options)
    found, found_groups = sampler.fit_resample(table, np.array(groups, dtype=object))
    weights = {group: float(np.mean([row["weight"] for row in usable if row[settings.by] == group])) for group in wanted}
    rows = []
    for i, (cells, group) in enumerate(zip(found[len(usable) :], found_groups[len(usable) :], strict=True)):
        row: dict[str, Any] = {name: float(np.floor(cell)) for name, cell in zip(numbers, cells, strict=False)}
        row |= {name: cell or None for name, cell in zip(labels, cells[len(numbers) :], strict=True)} | {settings.by: str(group)}
        row |= {name: survey.numeric(name, row[f"{name}_number"]) for name in survey.numbers}
        rows.append(row | {"id": short_hash("synthetic", survey.name, settings.by, seed, i), "weight": weights[group], "synthetic": True})
    return rows
