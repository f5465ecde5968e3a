import pydantic
import pytest

from stages.core.errors import InputError
from stages.core.params import parse
from stages.llm.endpoint import Endpoint, Traffic

HERE = "http://localhost:8000/v1"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost/v1", "http://", "https://me:secret@example.org/v1", "https://example.org/v1?key=secret"])
def test_addresses_are_checked_and_hold_no_secrets(url: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(Endpoint, {"base_url": url, "model": "m"}, "params.yaml: annotator.server")
    assert "annotator.server.base_url" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_only_what_changes_answers_changes_the_fingerprint() -> None:
    prints = [
        Endpoint(base_url=url, model=model, votes=votes).fingerprint
        for url, model, votes in [(HERE, "m", 10), (HERE + "/", "m", 10), ("http://localhost:8001/v1", "m", 10), (HERE, "n", 10), (HERE, "m", 11)]
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


@pytest.mark.parametrize(("url", "openai"), [("https://api.openai.com/v1", True), ("https://eu.api.openai.com/v1", True), ("https://notopenai.com/v1", False), (HERE, False)])
def test_the_dialect_follows_from_the_address(url: str, openai: bool) -> None:
    assert Endpoint(base_url=url, model="m").speaks_openai is openai
    assert Endpoint(base_url=url, model="m", dialect="openai").speaks_openai


@pytest.mark.parametrize("value", ["sk-abcdef", "my key", ""])
def test_a_key_in_the_place_of_its_variable_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(InputError, match="never the key itself") as caught:
        parse(Traffic, {"key_variable": value}, "params.yaml: runtime.server")
    assert "sk-abcdef" not in str(caught.value)


def test_the_key_comes_from_the_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_KEY", " sk-1\n")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert Traffic(key_variable="OWN_KEY").key() == "sk-1"
    assert Traffic().key() == ""


@pytest.mark.parametrize("value", ["sk-…", "two words", "a\nb"])
def test_what_can_be_no_key_is_refused_and_not_repeated(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
        Traffic().key()
    assert value not in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError):
        Traffic().tries = 3  # type: ignore[misc]
