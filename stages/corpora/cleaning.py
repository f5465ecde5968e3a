"""What a post's text tells before any model reads it: private details to mask, length, language, advertising."""

import html
import re
import unicodedata
from functools import cache
from typing import Any

MASKS = (
    (re.compile(r"(?:https?://|www\.)[^\s<>\"'\])]+", re.IGNORECASE), "[link]"),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w"), "[email]"),
    (re.compile(r"(?<![\w/])@\w[\w.]*\w"), "@user"),
    (re.compile(r"(?<![\w/])/?u/[\w-]+"), "u/user"),
    (re.compile(r"(?<![\d$€£.,-])(?:(?:\+?1[ .-])?(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]\d{4}|\d{3}-\d{4})(?![\d-])"), "[phone]"),
)
MASKED = re.compile(r"\[email\]|\[link\]|@user|u/user|\[phone\]")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\ufeff\ufffd\ud800-\udfff]")
WORD = re.compile(r"[^\W\d_][\w'’-]*")
SELLING = re.compile(
    "|".join(
        (
            r"promo|discount|giveaway|guarantee|commemorative|\bcode [A-Z0-9]{4,}|\d ?% off|#ad\b|new drop",
            r"\bfree (?:\w+ )?(?:shipping|trial|bottle|sample|quote|estimate|kit|knife|stitch|signals|salt|info\w*)",
            r"\bships?\b|shipping|delivery|\bin stock|while supplies last|not sold in stores|\bmidnight\b|\bonly \d+ left|\bfirst \d+",
            r"\blimited? (?:\w+ )?(?:time|edition|supply|seats|spots|run|\d+|five|two)|\d+ (?:spots|seats|students|callers|customers|people|reviews)",
            r"\border (?:now|yours|today|at|or)|your first order|shop (?:now|before)|buy (?:now|two|three|2|3|one)|\bprices?\b",
            r"\bdm me|\btap\b|\bclick|link in|apply in|\btext (?:\w+ to|\[phone\]|[A-Z]{4,})|\bcall (?:\[phone\]|now|today)",
            r"\b(?:write|message) (?:to )?\[email\]|drop your handle|followers|follow everybody",
            r"turned \$?\d|\bmade \$\d|earn \$|\$\d[\d,]* (?:down|a skein|each|a month|per|off)|\d+ ?% a (?:year|month|day)|passive income|work from home",
            r"presale|airdrop|staking|crypto|bitcoin|signals?\b|trading|financial advice|eagle\b|\bIRA\b|retirement|bad credit|no credit",
            r"supplement|gummies|testosterone|t-boost|weight loss|\d+ lbs|servings|shelf life",
            r"\btees?\b|t-?shirts?|hoodies?|\bmugs?\b|interview|plagiarism|\bbedroom|\b\d bed\b|no fee|heat included",
        )
    ),
    re.IGNORECASE,
)
"Phrases that sell."


def mask(text: str) -> str:
    """``text`` as plain characters (HTML entities resolved, NFC) with links, mentions, e-mail addresses and telephone numbers masked."""
    text = unicodedata.normalize("NFC", html.unescape(text)).replace("\r\n", "\n").replace("\r", "\n")
    text = CONTROL.sub("", text)
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    return text.strip()


def words(masked: str) -> list[str]:
    """The words of a masked text, without the masks."""
    return WORD.findall(MASKED.sub(" ", masked))


def is_spam(masked: str) -> bool:
    """Whether a masked text advertises: it asks to be reached (a link, a number, an address, a direct message) and sells in several phrases."""
    phrases = {match.group(0).lower() for match in SELLING.finditer(masked)}
    reachable = bool(re.search(r"\[link\]|\[phone\]|\[email\]|\bdm\b", masked, re.IGNORECASE))
    return len(phrases) >= (2 if reachable else 3)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415  # takes half a second, and only collect needs it

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(masked: str) -> tuple[str, float]:
    """The likeliest language of a masked text (ISO 639-1) and its probability, by py3langid."""
    code, probability = _identifier().classify(MASKED.sub(" ", masked))
    return str(code), float(probability)
