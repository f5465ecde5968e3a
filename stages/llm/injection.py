"""Posts that try to instruct the model that reads them.

What keeps such a post from being obeyed is first of all that its score is read from probabilities of fixed answers, and that chat markers in it are broken
(:meth:`stages.llm.tokenizer.Tokenizer.render`). This takes out what remains: sentences that speak to whoever rates the post.
"""

import re

READER = r"(?:robot|bot|machine|model|whatever|whoever|person|one)"
ADDRESS = rf"(?:annotators?|raters?|labell?ers?|ai (?:graders?|models?|readers?)|{READER}\b[^.!?]{{0,25}}\b(?:rat|grad|label+|scor|annotat|read)ing\b)"
MARK = r"(?:score|scores|mark|rating|label|grade|rate|rated|answer|number)"
VALUE = r"(?:[0-3]\b|strong\b|highest|maximum|top\b|level [0-3])"
ORDERS = re.compile(
    rf"""
    \b{ADDRESS}
    | \b(?:ignore|disregard|forget)\b[^.!?]{{0,40}}\b(?:above|previous|earlier|instructions?|rubric|directions|prompt)\b
    | ["“']?\b(?:final[_ ])?{MARK}\b["”']?\s*(?:(?:is|as|it|this|for)\b[\s\w]{{0,30}}|=|:)\s*["“']?{VALUE}
    | \b(?:mark|rate|score|label|grade|recorded|rated)\b(?:[^.!?]{{0,45}}\b(?:strong|highest|maximum|top|level)\b|\s(?:(?:it|this|them|as)\s)*[0-3]\b)
    | \b(?:highest|top|high|maximum)\s{MARK}\b
    | \b(?:output|answer|reply|respond|return)\b[^.!?]{{0,25}}\b(?:only|just|with)\b[^.!?]{{0,25}}{VALUE}
    | \bfinal\sanswer\b | \bcalibration\smode\b | \b(?:annotation|grading|scoring|rating)\s(?:policy|scale|session|complete|instructions?)\b
    | (?:^|\[|\#\s*)SYSTEM\b | \b(?:as\sthe|dear)\s(?:ai|robot|bot|model)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
PART = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]|#{2,}[^#]*#{2,}|[^.!?\n{\[#]+(?:[.!?]+(?=\s|$)|\n|$|(?=[{\[#]))|.", re.DOTALL)


def without_orders(text: str) -> str:
    """``text`` without the sentences, brackets and JSON objects that tell a reader how to rate it; as it was if there are none."""
    if not ORDERS.search(text):
        return text
    parts = PART.findall(text)
    kept = [part for part in parts if not ORDERS.search(part)]
    return "".join(kept).strip()


def shown(post: str, length: int) -> str:
    """What an annotator sees of a post: its first ``length`` characters, without orders."""
    return without_orders(post)[:length]
