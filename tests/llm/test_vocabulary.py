import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, GGUFWriter, TokenType
from tokenizers import Tokenizer as HuggingFaceTokenizer

from stages.core.errors import InputError
from stages.llm import vocabulary
from stages.llm.tokenizer import tokenizer_of
from stages.llm.vocabulary import Vocabulary
from tests import checkpoints

KINDS = ["llama3", "mistral", "smollm2"]


def tokenizer_folder(folder: Path, kind: str, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    words = json.loads(checkpoints.tokenizer(kind).to_str())
    change(words)
    (folder / "tokenizer.json").write_text(json.dumps(words))
    bos, eos, template = checkpoints.ENDS[kind]
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos, "eos_token": eos, "chat_template": template}))
    return folder


def write_gguf(file: Path, found: Vocabulary) -> Path:
    writer = GGUFWriter(file, "llama")
    for add in (writer.add_context_length, writer.add_embedding_length, writer.add_block_count, writer.add_feed_forward_length, writer.add_head_count):
        add(8)
    writer.add_layer_norm_rms_eps(1e-5)
    found.add_to(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_reads_text_as_the_original_does(tmp_path: Path, kind: str) -> None:
    original = checkpoints.tokenizer(kind)
    size = original.get_vocab_size() + 5
    file = write_gguf(tmp_path / "words.gguf", vocabulary.read(tokenizer_folder(tmp_path, kind), size))
    bos, eos, _ = checkpoints.ENDS[kind]
    texts = [*vocabulary.PROBES, "I", " ", "  x", "a" * 50, "x  \n\n  y", f"{bos}one{eos}\ntwo {eos}", "0" * 7, "I'd've", "\U0001f9d1\u200d\U0001f680!?"]
    with tokenizer_of(file) as tokenizer:
        assert tokenizer.size == size
        for text in texts:
            assert tokenizer.tokens(text) == original.encode(text, add_special_tokens=False).ids, text
        assert original.token_to_id(eos) in tokenizer.ending
        vocabulary.compare(tmp_path, tokenizer)


@pytest.mark.parametrize(("kind", "model", "pre"), [("llama3", "gpt2", "llama-bpe"), ("mistral", "llama", "default"), ("smollm2", "gpt2", "smollm")])
def test_the_file_names_the_way_to_divide_text_and_marks_special_tokens(tmp_path: Path, kind: str, model: str, pre: str) -> None:
    size = checkpoints.tokenizer(kind).get_vocab_size() + 2
    found = vocabulary.read(tokenizer_folder(tmp_path, kind), size)
    assert (found.model, found.pre) == (model, pre)
    assert [text for text, kind_ in zip(found.tokens, found.types, strict=True) if kind_ == TokenType.UNUSED] == [f"[PAD{size - 2}]", f"[PAD{size - 1}]"]
    marked = {text for text, kind_ in zip(found.tokens, found.types, strict=True) if kind_ in (TokenType.CONTROL, TokenType.UNKNOWN)}
    assert marked == set(checkpoints.SPECIAL[kind])
    reader = GGUFReader(write_gguf(tmp_path / "words.gguf", found))
    assert reader.fields["tokenizer.chat_template"].contents() == checkpoints.ENDS[kind][2]


def test_a_template_in_a_file_of_its_own_is_read(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path, "smollm2")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    with pytest.raises(InputError, match=r"no chat template.*chat_template\.jinja"):
        vocabulary.read(folder, 600)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert vocabulary.read(folder, 600).special.chat_template == "{{ messages }}"


@pytest.mark.parametrize("size", [400, 5000])
def test_a_tokenizer_with_more_or_far_fewer_tokens_than_embeddings_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(InputError, match=rf"tokenizer\.json: numbers its tokens up to 499, .* for {size} "):
        vocabulary.read(tokenizer_folder(tmp_path, "smollm2"), size)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    folder = tokenizer_folder(tmp_path, "smollm2")
    (folder / name).write_text("{")
    with pytest.raises(InputError, match=rf"{name}: is not readable as JSON"):
        vocabulary.read(folder, 600)
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: there is no such file"):
        vocabulary.read(folder, 600)


def without_added(words: dict[str, Any]) -> None:
    words["added_tokens"] = [{"content": "x"}]


def unigram(words: dict[str, Any]) -> None:
    words["model"]["type"] = "Unigram"


def other_split(words: dict[str, Any]) -> None:
    words["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{Lu}+|\s+"


def lower_case(words: dict[str, Any]) -> None:
    words["normalizer"] = {"type": "Lowercase"}


def fewer_bytes(words: dict[str, Any]) -> None:
    words["model"]["vocab"]["<spare>"] = words["model"]["vocab"].pop("<0x7F>")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("llama3", unigram, "of type Unigram"),
        ("llama3", other_split, r"divides text in a way that is not known.*p\{Lu\}.*llama-bpe"),
        ("smollm2", lower_case, "divides text in a way that is not known.*Lowercase"),
        ("mistral", lower_case, "changes text .* in a way that is not known.*Lowercase"),
        ("llama3", without_added, "is not laid out as a tokenizer .*id"),
        ("mistral", fewer_bytes, "lacks the token '<0x7F>'"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, kind: str, change: Callable[[dict[str, Any]], None], message: str) -> None:
    with pytest.raises(InputError, match=rf"tokenizer\.json.*{message}"):
        vocabulary.read(tokenizer_folder(tmp_path, kind, change), 600)


def test_text_that_llama_cpp_would_divide_otherwise_is_shown(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path, "smollm2")
    file = write_gguf(tmp_path / "words.gguf", vocabulary.read(folder, 600))
    words = HuggingFaceTokenizer.from_file(str(folder / "tokenizer.json"))
    words.add_tokens(["raise taxes"])
    words.save(str(folder / "tokenizer.json"))
    with tokenizer_of(file) as tokenizer, pytest.raises(InputError, match="llama.cpp would read .*raise taxes"):
        vocabulary.compare(folder, tokenizer)
