"""Text to tokens and chats to text, as a GGUF file defines them.

Training, generating and measuring all go through here, so a model is tuned on the very tokens that it is later asked with.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stages.core.errors import InputError
from stages.llm.interface import Prompt


class Tokenizer:
    """The vocabulary and chat template of a loaded GGUF model."""

    def __init__(self, model: Any, file: Path) -> None:
        """``model`` is llama.cpp's handle of ``file``.

        :raises InputError: if the file holds no chat template, as base models that are not tuned to answer do.
        """
        self.file = file
        self.vocab = llama_cpp.llama_model_get_vocab(model)
        self.size = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self.ending = [token for token in range(self.size) if llama_cpp.llama_vocab_is_eog(self.vocab, token)]
        first = int(llama_cpp.llama_vocab_bos(self.vocab))
        self.beginning = [first] if first >= 0 and llama_cpp.llama_vocab_get_add_bos(self.vocab) else []
        "what plain text begins with, for models that learnt it so: Llama and Mistral have one token for it, SmolLM2 none; chat templates write it themselves"
        marked = [t for t in range(self.size) if llama_cpp.llama_vocab_get_attr(self.vocab, t) & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL]
        self._markers = [text for token in marked if len(text := llama_cpp.llama_vocab_get_text(self.vocab, token).decode()) > 1]
        template = llama_cpp.llama_model_chat_template(model, None)
        if not template:
            raise InputError(f"{file}: holds no chat template. Use an instruction-tuned model.")
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        environment.globals["raise_exception"] = _refuse  # what templates call when they cannot write a chat
        self._template = environment.from_string(template.decode())

    def tokens(self, text: str, *, special: bool = True) -> list[int]:
        """Token numbers of ``text``; with ``special``, markers such as ``<|im_start|>`` count as the tokens they name."""
        raw = text.encode()
        buffer = (llama_cpp.llama_token * (len(raw) + 8))()
        n = llama_cpp.llama_tokenize(self.vocab, raw, len(raw), buffer, len(buffer), False, special)
        return list(buffer[:n])

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; nothing for special tokens."""
        buffer = ctypes.create_string_buffer(256)
        n = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(n, 0)]

    def render(self, prompt: Prompt, *, answer_follows: bool = True) -> str:
        """The chat as the model's own template writes it.

        A marker such as ``<|im_end|>`` inside a turn is broken by a blank, so that no post can end its turn and begin another.

        :raises InputError: if the template refuses the chat, for example because it knows no system turn.
        """
        turns = [{"role": turn.role, "content": self._harmless(turn.content)} for turn in prompt]
        try:
            return self._template.render(messages=turns, add_generation_prompt=answer_follows, bos_token=self._text_of("bos"), eos_token=self._text_of("eos"))
        except TemplateError as error:
            raise InputError(f"{self.file}: its chat template refuses the prompt: {error}") from error

    def _harmless(self, text: str) -> str:
        for marker in self._markers:
            text = text.replace(marker, f"{marker[:1]} {marker[1:]}")
        return text

    def _text_of(self, which: str) -> str:
        token = getattr(llama_cpp, f"llama_vocab_{which}")(self.vocab)
        return (llama_cpp.llama_vocab_get_text(self.vocab, token) or b"").decode() if token >= 0 else ""


def _refuse(message: str) -> None:
    raise TemplateError(message)


@contextmanager
def tokenizer_of(file: Path) -> Iterator[Tokenizer]:
    """The tokenizer of a GGUF file, without loading its weights."""
    model = load_model(file, vocab_only=True)
    try:
        yield Tokenizer(model, file)
    finally:
        llama_cpp.llama_model_free(model)


def load_model(file: Path, *, vocab_only: bool = False) -> Any:
    """llama.cpp's handle of a GGUF file, to be freed with ``llama_model_free``.

    :raises InputError: if the file is missing or llama.cpp cannot load it.
    """
    llama_cpp.llama_log_set(_drop, ctypes.c_void_p(0))
    if not file.exists():
        raise InputError(f"{file}: there is no such model file.")
    settings = llama_cpp.llama_model_default_params()
    settings.vocab_only = vocab_only
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), settings)
    if not model:
        raise InputError(f"{file}: llama.cpp cannot load it as a model. Is it a complete GGUF file?")
    return model


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]  # a ctypes function type
def _drop(_level: int, _text: bytes, _data: Any) -> None:
    """llama.cpp reports every tensor; errors reach the user through InputError."""
