"""The tokenizer of a Hugging Face folder, as a GGUF file describes it to llama.cpp.

Two kinds are known: byte-level BPE (Llama 3, SmolLM2) and SentencePiece's BPE with bytes for what it does not know (Llama 2, Mistral).
What llama.cpp makes of the file is compared with the original on :data:`PROBES`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, SpecialVocab, TokenType
from tokenizers import Tokenizer as HuggingFaceTokenizer

from stages.core.errors import InputError
from stages.llm.tokenizer import Tokenizer

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"Where Llama 3 divides text before it merges bytes."
PRE_TOKENIZERS: dict[tuple[object, ...], str] = {
    (("Split", LLAMA3, "Isolated", False), ("ByteLevel", False), True): "llama-bpe",
    (("Split", LLAMA3, "Isolated", False), ("ByteLevel", False), False): "smaug-bpe",
    (("Digits", True), ("ByteLevel", True), False): "smollm",
    (("ByteLevel", True), False): "gpt-2",
}
"How llama.cpp calls a way to divide text: the steps of tokenizer.json's pre_tokenizer, and whether whole words of the vocabulary skip merging."
UNUSED = 1024
"So many rows of the embeddings may have no token: checkpoints round their number up for speed."
SPACE = "\u2581"
"What SentencePiece writes for a blank."
PROBES = (
    "The mayor's plan wouldn't raise taxes; they'll vote on it, I'm told, and WE'VE seen IT'S fair.",
    "   three blanks first, two  inside, one last ",
    "Numbers: 7, 42, 365, 1984, 12345, 1234567890, 3.14159, 1,000,000 and 50%.",
    "lines\nand\n\nempty lines\n   indented\ttabs\t\tand\r\nothers\n",
    "Emoji 😀👍🏽 ❤️ 👩‍👩‍👧‍👦 🏳️‍🌈 and flags 🇩🇪🇺🇸",
    "Grüße, naïveté, Łódź, İstanbul, smørrebrød, e\u0301 and ½ ² Ⅷ",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם. مرحبا بالعالم ١٢٣",
    "你好，世界。日本語のテスト 한국어 नमस्ते दुनिया สวัสดี",
    "@user #MAGA https://example.org/a?b=c&d=1 (quoted) \"text\" -- 'so' … “well” <br/> {x: [1]} $5 €7 &amp; ~/a_b",
)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by number, and how text is divided into them."""

    model: str
    "GGUF's name of the kind: ``gpt2`` (byte-level BPE) or ``llama`` (SentencePiece)"
    pre: str
    "llama.cpp's name of the way in which text is divided first"
    tokens: list[str]
    types: list[TokenType]
    scores: list[float] | None
    "of SentencePiece's tokens: of two possible merges the one with the higher score comes first"
    space_first: bool
    "whether a text is read as if it began with a blank"
    special: SpecialVocab
    "merges, numbers of special tokens, chat template"

    def add_to(self, writer: GGUFWriter) -> None:
        """Write all of it into the metadata of a GGUF file."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
            writer.add_add_space_prefix(self.space_first)
        self.special.add_to_gguf(writer, quiet=True)


def read(folder: Path, size: int) -> Vocabulary:
    """The tokenizer of a Hugging Face folder for a model with ``size`` rows of embeddings.

    :raises InputError: if it is missing, of an unknown kind, does not fit the model, or has no chat template.
    """
    file = folder / "tokenizer.json"
    description, _ = _json(file), _json(folder / "tokenizer_config.json")  # the latter is read by SpecialVocab, which would go on without
    try:
        return _read(folder, file, description, size)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{file}: is not laid out as a tokenizer ({error!r}). Download it again.") from error


def _read(folder: Path, file: Path, description: Mapping[str, Any], size: int) -> Vocabulary:
    model = description["model"]
    if model.get("type") != "BPE":
        raise InputError(f"{file}: is a tokenizer of type {model.get('type')}. Only BPE works here, as Llama, Mistral and SmolLM2 have it.")
    numbered = {**{number: text for text, number in model["vocab"].items()}, **{token["id"]: token["content"] for token in description.get("added_tokens", [])}}
    if not max(numbered) < size <= max(numbered) + 1 + UNUSED:
        raise InputError(f"{file}: numbers its tokens up to {max(numbered)}, and the model has embeddings for {size} of them. Use the tokenizer that belongs to the model.")
    sentence_piece = bool(model.get("byte_fallback"))
    special = SpecialVocab(folder, load_merges=not sentence_piece, n_vocab=size)
    if not special.chat_template:
        raise InputError(
            f"{folder}: holds no chat template, neither in tokenizer_config.json nor as chat_template.jinja. "
            "Use the variant that was tuned to answer, or put the template to tune with into chat_template.jinja."
        )
    tokens = [numbered.get(number, f"[PAD{number}]") for number in range(size)]
    types = _types(description, numbered, size, sentence_piece=sentence_piece)
    if not sentence_piece:
        return Vocabulary("gpt2", _pre_tokenizer(description, file), tokens, types, None, False, special)
    return Vocabulary("llama", "default", tokens, types, _scores(model, tokens, file), _space_first(description, file), special)


def compare(folder: Path, tokenizer: Tokenizer) -> None:
    """Make sure that llama.cpp divides text as the folder's own tokenizer does.

    :raises InputError: at the first text that it divides otherwise.
    """
    original = HuggingFaceTokenizer.from_file(str(folder / "tokenizer.json"))
    for text in PROBES:
        theirs, ours = original.encode(text, add_special_tokens=False).ids, tokenizer.tokens(text)
        if theirs != ours:
            raise InputError(f"{folder}: llama.cpp would read {text!r} as the tokens {ours}, and tokenizer.json says {theirs}. Give a GGUF file of this checkpoint instead.")


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{file}: there is no such file. Download it; if there is none, AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers writes it.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: is not readable as JSON ({error}). Download it again.") from error
    if not isinstance(found, dict):
        raise InputError(f"{file}: is no JSON object. Download it again.")
    return found


def _types(description: Mapping[str, Any], numbered: Mapping[int, str], size: int, *, sentence_piece: bool) -> list[TokenType]:
    """What kind of token each number is."""
    types = [TokenType.NORMAL if number in numbered else TokenType.UNUSED for number in range(size)]
    if sentence_piece:
        for number, text in numbered.items():
            if re.fullmatch("<0x[0-9A-F]{2}>", text):
                types[number] = TokenType.BYTE
    for token in description.get("added_tokens", []):
        types[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    unknown = description["model"].get("unk_token")
    if sentence_piece and unknown in description["model"]["vocab"]:
        types[description["model"]["vocab"][unknown]] = TokenType.UNKNOWN
    return types


def _steps(node: Mapping[str, Any] | None) -> Iterator[tuple[object, ...]]:
    """The steps of a pre-tokenizer or normaliser, each as a tuple of what matters."""
    node = node or {}
    for inner in node.get("pretokenizers", node.get("normalizers", [])):
        yield from _steps(inner)
    kind = node.get("type", "Sequence")
    if kind == "Split":
        yield kind, node["pattern"].get("Regex"), node["behavior"], node["invert"]
    elif kind == "Digits":
        yield kind, node["individual_digits"]
    elif kind == "ByteLevel":
        yield (kind, node.get("use_regex", True), *(["add_prefix_space"] if node["add_prefix_space"] else []))
    elif kind == "Metaspace":
        yield kind, node["replacement"], node.get("prepend_scheme", "always" if node.get("add_prefix_space", True) else "never"), node.get("split", True)
    elif kind == "Prepend":
        yield kind, node["prepend"]
    elif kind == "Replace":
        yield kind, node["pattern"].get("String"), node["content"]
    elif kind != "Sequence":
        yield (kind,)


def _pre_tokenizer(description: Mapping[str, Any], file: Path) -> str:
    """llama.cpp's name of the way in which a byte-level tokenizer divides text."""
    steps = (*_steps(description.get("normalizer")), *_steps(description.get("pre_tokenizer")))
    name = PRE_TOKENIZERS.get((*steps, bool(description["model"].get("ignore_merges"))))
    if name is None:
        known = ", ".join(PRE_TOKENIZERS.values())
        raise InputError(f"{file}: divides text in a way that is not known here: {steps}. Known is what llama.cpp calls {known}. Give a GGUF file of this checkpoint instead.")
    return name


def _space_first(description: Mapping[str, Any], file: Path) -> bool:
    """Whether a SentencePiece tokenizer puts a blank before a text; other ways to change a text are refused."""
    steps = {*_steps(description.get("normalizer")), *_steps(description.get("pre_tokenizer"))}
    blanks = ("Replace", " ", SPACE)
    if steps in ({("Prepend", SPACE), blanks}, {("Metaspace", SPACE, "always", False)}, {("Metaspace", SPACE, "first", False)}):
        return True
    if steps in ({blanks}, {("Metaspace", SPACE, "never", False)}):
        return False
    raise InputError(f"{file}: changes text before it divides it in a way that is not known here: {sorted(map(str, steps))}. Give a GGUF file of this checkpoint instead.")


def _scores(model: Mapping[str, Any], tokens: list[str], file: Path) -> list[float]:
    """SentencePiece's order of merges, as scores of the tokens they make: the earlier the merge, the higher."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge if isinstance(merge, list) else merge.split(" ")
        ranks.setdefault(left + right, rank)
    missing = [text for text in (*(f"<0x{byte:02X}>" for byte in range(256)), *ranks) if text not in model["vocab"]]
    if missing:
        raise InputError(f"{file}: lacks the token {missing[0]!r}, which its merges or its bytes need. Download it again.")
    return [-float(ranks.get(text, len(ranks))) for text in tokens]
