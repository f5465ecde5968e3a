"""What the answers of held-out respondents look like to methods that need no language model, from the same table that it is tuned on.

They know what personas state, no more. An item that was held out has no answers to learn from: then the answers to all trained items with the same
options stand for it, and without such items every option is equally likely.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from stages.statistics.groups import Array
from stages.surveys.interviews import Row, answered, distribution, on_scale, scale

Baseline = Callable[[Sequence[Row], Sequence[Row], int], Array]
"(rows of known answers, rows to predict [n], number of options k) -> [n, k]"


def uniform(_known: Sequence[Row], asked: Sequence[Row], k: int) -> Array:
    """Every option alike."""
    return np.full((len(asked), k), 1 / k)


def marginal(known: Sequence[Row], asked: Sequence[Row], k: int) -> Array:
    """How all respondents of the training split answer."""
    total = distribution(known, k)
    return np.tile(total / total.sum(), (len(asked), 1))


def _learnt(model: LogisticRegression | RandomForestClassifier, stated: Sequence[str]) -> Baseline:
    def predict(known: Sequence[Row], asked: Sequence[Row], k: int) -> Array:
        def attributes(rows: Sequence[Row]) -> list[list[str]]:
            return [[row[name] or "" for name in stated] for row in rows]

        places = [on_scale(row) for row in known]
        if len(set(places)) < 2 or not stated:
            return marginal(known, asked, k)
        pipeline = make_pipeline(OneHotEncoder(handle_unknown="ignore"), model)
        pipeline.fit(attributes(known), places, **{f"{pipeline.steps[-1][0]}__sample_weight": [row["weight"] for row in known]})
        found = np.zeros((len(asked), k))
        found[:, pipeline.classes_] = pipeline.predict_proba(attributes(asked))
        return found

    return predict


def baselines(stated: Sequence[str], trees: int, seed: int) -> Mapping[str, Baseline]:
    """All of them by name.

    Logistic regression has scikit-learn's settings. The leaves of the random forest hold at least 10 respondents, because single ones give
    probabilities of 0 and 1.
    """
    forest = RandomForestClassifier(n_estimators=trees, min_samples_leaf=10, random_state=seed)
    return {"uniform": uniform, "marginal": marginal, "logistic": _learnt(LogisticRegression(max_iter=1000), stated), "forest": _learnt(forest, stated)}


def predict(baseline: Baseline, training: Sequence[Row], asked: Sequence[Row]) -> Array:
    """Answers [n, k] to one item of which ``asked`` [n] are the rows, in the order of its scale."""
    options = scale(asked[0])
    known = answered(training)
    own = [row for row in known if row["item"] == asked[0]["item"]] or [row for row in known if scale(row) == options]
    return (baseline if own else uniform)(own, asked, len(options))
