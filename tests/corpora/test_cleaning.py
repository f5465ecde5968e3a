import json
from pathlib import Path

import pytest

from stages.corpora.cleaning import is_spam, language, mask, words

SAMPLE = Path(__file__).parents[2] / "data" / "sample" / "control" / "posts.jsonl"


@pytest.mark.parametrize(
    ("raw", "masked"),
    [
        ("see https://example.net/a?b=1#c now", "see [link] now"),
        ("see WWW.Example.net/a now", "see [link] now"),
        ("(http://example.net)", "([link])"),
        ("[title](https://example.net/x) more", "[title]([link]) more"),
        ("https://example.net/u/somebody said", "[link] said"),
        ("https://video.example/@channel/live", "[link]"),
        ("https://example.net/?mail=ann@example.org&x=1 now", "[link] now"),
        ("thanks @some_one.x!", "thanks @user!"),
        (".@someone, @other", ".@user, @user"),
        ("ask u/some-one_1 or /u/Other", "ask u/user or u/user"),
        ("mail ann.b+c@mail.example.org.", "mail [email]."),
        ("call 555-123-4567 now", "call [phone] now"),
        ("call (555) 123-4567", "call [phone]"),
        ("call 1-800-555-1234, or 555.123.4567", "call [phone], or [phone]"),
        ("+1 555 123-4567", "[phone]"),
        ("ring 555-1234 tonight", "ring [phone] tonight"),
    ],
)
def test_private_details_are_masked(raw: str, masked: str) -> None:
    assert mask(raw) == masked


@pytest.mark.parametrize(
    "text",
    [
        "on 2022-03-01, or 03/01/2022, or 1.3.2022",
        "from 2016-2020 and 1939-1945",
        "$1,200,000 and $4.50 and 800 billion dollars",
        "paid $500-1000 for it",
        "grew 123.4567 percent",
        "ZIP 12345-6789",
        "serial number 123-456789",
        "at 10:30-11:45",
        "posted in r/politics and/or elsewhere",
        "w/o a doubt, 24/7",
        "meet @ noon",
        "50,000,000 people in 330-odd counties",
    ],
)
def test_dates_money_and_other_words_are_left_alone(text: str) -> None:
    assert mask(text) == text


def test_texts_become_plain_characters() -> None:
    assert mask(" Q&amp;A &lt;3 \u200b\ufeffcafe\u0301\x00\r\nend\rlast ") == "Q&A <3 caf\u00e9\nend\nlast"


def test_details_behind_html_entities_are_masked() -> None:
    assert mask("&#64;somebody at https:&#x2F;&#x2F;example.net") == "@user at [link]"


def test_masking_twice_changes_nothing() -> None:
    texts = [json.loads(line)["text"] for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    once = [mask(text) for text in texts]
    assert [mask(text) for text in once] == once


def test_masks_are_no_words() -> None:
    assert words(mask("Hey @bob, don't mail ann@example.org or u/cat 24 times: https://example.net 555-123-4567")) == [
        "Hey",
        "don't",
        "mail",
        "or",
        "times",
    ]


@pytest.mark.parametrize(
    ("text", "spam"),
    [
        ("Order now and get 20% off with free shipping [link]", True),
        ("Free trial, guaranteed weight loss, 3 spots left", True),
        ("They raised prices again and blamed us for it.", False),
        ("Read the report before you vote [link]", False),
        ("Bitcoin will not pay the teachers.", False),
    ],
)
def test_spam_sells_in_several_phrases(text: str, spam: bool) -> None:
    assert is_spam(text) is spam


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("We have to pass the bill before the summer break, whatever they say.", "en"),
        ("Wir m\u00fcssen das Gesetz vor der Sommerpause verabschieden, egal was sie sagen.", "de"),
        ("Tenemos que aprobar la ley antes de las vacaciones, digan lo que digan.", "es"),
    ],
)
def test_the_language_is_told_with_its_probability(text: str, code: str) -> None:
    found, probability = language(text)
    assert found == code
    assert 0.9 < probability <= 1.0 + 1e-6


def test_masks_do_not_count_for_the_language() -> None:
    text = "Wir m\u00fcssen das Gesetz verabschieden"
    assert language(f"[link] {text} u/user [email]") == language(f"  {text}    ")
