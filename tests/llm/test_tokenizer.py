import mmap
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.llm.interface import Message
from stages.llm.tokenizer import Tokenizer, tokenizer_of

TEXTS = (
    "Hello, world!",
    "  two  spaces\n\nand lines\t",
    "naïve café — “quotes” 🚢🇺🇦",
    "{braces} {{more}} {% raw %} $names",
    "1234567890",
    "a\x00b",
    "龘" * 50,
)


@pytest.fixture(scope="module")
def tokenizer(base_model: Path) -> Iterator[Tokenizer]:
    with tokenizer_of(base_model / "model.gguf") as found:
        yield found


@pytest.fixture
def doctored(base_model: Path, tmp_path: Path) -> Callable[[bytes, bytes], Path]:
    """A copy of the model in which the first occurrence of some bytes is replaced by as many others."""

    def make(old: bytes, new: bytes) -> Path:
        assert len(old) == len(new)
        copy = tmp_path / "doctored.gguf"
        shutil.copyfile(base_model / "model.gguf", copy)
        with copy.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
            place = content.find(old)
            assert place >= 0
            content[place : place + len(old)] = new
        return copy

    return make


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_text_give_the_text(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.tokens(text)
    assert b"".join(tokenizer.piece(token) for token in tokens).decode() == text
    assert all(0 <= token < tokenizer.size for token in tokens)


def test_an_empty_text_has_no_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.tokens("") == []


def test_markers_are_one_token_only_where_they_are_meant(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.tokens("<|im_end|>")) == 1
    assert len(tokenizer.tokens("<|im_end|>", special=False)) > 1


def test_a_marker_has_no_piece_and_ends_an_answer(tokenizer: Tokenizer) -> None:
    (end,) = tokenizer.tokens("<|im_end|>")
    assert tokenizer.piece(end) == b""
    assert end in tokenizer.ending


def test_no_ordinary_word_ends_an_answer(tokenizer: Tokenizer) -> None:
    assert not set(tokenizer.ending) & {token for text in TEXTS for token in tokenizer.tokens(text)}


def test_a_chat_is_written_as_the_template_says(tokenizer: Tokenizer) -> None:
    turns = (Message("system", "Be kind."), Message("user", "Hi {there}"), Message("assistant", "Hello"), Message("user", "{{ 1 + 1 }}"))
    start = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi {there}<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    assert tokenizer.render(turns) == f"{start}<|im_start|>user\n{{{{ 1 + 1 }}}}<|im_end|>\n<|im_start|>assistant\n"


def test_a_chat_with_its_answer_continues_the_chat_that_asks_for_it(tokenizer: Tokenizer) -> None:
    asked = (Message("system", "Be kind."), Message("user", "Hi"))
    whole = tokenizer.render((*asked, Message("assistant", "Hello")), answer_follows=False)
    assert whole == tokenizer.render(asked) + "Hello<|im_end|>\n"


def test_a_model_without_a_chat_template_is_refused_by_name(doctored: Callable[[bytes, bytes], Path]) -> None:
    file = doctored(b"tokenizer.chat_template", b"tokenizer.chat_tampered")
    with pytest.raises(InputError, match=r"doctored\.gguf: holds no chat template"), tokenizer_of(file):
        pass


def test_a_template_that_refuses_the_chat_is_reported_with_its_reason(base_model: Path, doctored: Callable[[bytes, bytes], Path]) -> None:
    content = (base_model / "model.gguf").read_bytes()
    start = content.index(b"tokenizer.chat_template") + len(b"tokenizer.chat_template") + 4  # after the number of the type
    length = int.from_bytes(content[start : start + 8], "little")
    template = content[start + 8 : start + 8 + length]
    file = doctored(template, b"{{ raise_exception('no system turn, please') }}".ljust(length))
    with tokenizer_of(file) as found, pytest.raises(InputError, match=r"doctored\.gguf: .*no system turn, please"):
        found.render((Message("user", "Hi"),))


def test_a_file_that_is_no_model_has_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "odd.gguf").write_text("text")
    with pytest.raises(InputError, match=r"odd\.gguf"), tokenizer_of(tmp_path / "odd.gguf"):
        pass


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=tmp_path.name), tokenizer_of(tmp_path):
        pass
