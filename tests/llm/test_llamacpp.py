"""Expected probabilities come from llama-cpp-python's own one-sequence class, run over the same file."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import llama_cpp
import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from scipy.special import log_softmax, logsumexp, softmax

from stages.core.errors import InputError
from stages.llm.interface import Choice, Completion, Message, Prompt, Sampling, in_order, several
from stages.llm.llamacpp import LlamaCpp

CONTEXT = 512
SYSTEM = "You answer briefly."
QUESTIONS = (
    "What is the capital of France?",
    "Name a colour.",
    "Write a sentence about rain on a warm evening.",
    "Why do cats purr? Answer shortly.",
    "Reply with the word yes.",
    "Is water wet?",
    "Tell me a short story about a dog and a boat on a lake.",
    "How many legs has a spider, and how many eyes?",
    "Who wrote Hamlet, and when?",
    "Give one reason to learn to swim in a river.",
)
GREEDY = Sampling(max_tokens=6)
DRAWN = Sampling(max_tokens=6, temperature=1.0, seed=3)
OPTIONS = ("yes", "no", "Strongly agree", "1", "10")


def chat(question: str, system: str = SYSTEM) -> Prompt:
    return Message("system", system), Message("user", question)


def written(question: str) -> str:
    return f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


PROMPTS = [chat(question) for question in QUESTIONS]


@pytest.fixture(scope="module", params=["torch", "llama.cpp"])
def model(base_model: Path, request: pytest.FixtureRequest) -> Iterator[LlamaCpp]:
    """The model as it chooses where torch can evaluate its file, and where it cannot."""
    with LlamaCpp(base_model / "model.gguf", sequences=4, context=CONTEXT) as loaded:
        if request.param == "llama.cpp":
            loaded._forward = None
        assert (loaded._forward is None) == (request.param == "llama.cpp")
        yield loaded


@pytest.fixture(scope="module", params=["torch", "llama.cpp"])
def writer(base_model: Path, request: pytest.FixtureRequest) -> Iterator[LlamaCpp]:
    """The model as it writes on a GPU, with torch's products in float32, and on a CPU."""
    with LlamaCpp(base_model / "model.gguf", sequences=4, context=CONTEXT) as loaded:
        if request.param == "torch":
            assert loaded._forward
            loaded._forward.factors, loaded._writer = torch.float32, loaded._forward
        else:
            loaded._writer = None
        yield loaded


@pytest.fixture
def precise(model: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> LlamaCpp:
    """The same, with torch's products in float32: what its rounding does is held in test_forward.py."""
    if model._forward:
        monkeypatch.setattr(model._forward, "factors", torch.float32)
    return model


@pytest.fixture(scope="module")
def reference(base_model: Path) -> Iterator[llama_cpp.Llama]:
    loaded = llama_cpp.Llama(str(base_model / "model.gguf"), n_ctx=256, logits_all=True, flash_attn=True, verbose=False)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def batch(writer: LlamaCpp) -> list[Completion]:
    return in_order(writer.generate(PROMPTS, GREEDY), len(PROMPTS))


@pytest.fixture(scope="module")
def drawn(writer: LlamaCpp) -> list[Completion]:
    return in_order(writer.generate(PROMPTS[:6], DRAWN), 6)


@pytest.fixture(scope="module")
def choices(model: LlamaCpp) -> list[Choice]:
    return in_order(model.choose(PROMPTS, [OPTIONS] * len(PROMPTS)), len(PROMPTS))


def answer(model: LlamaCpp, prompt: Prompt, sampling: Sampling = GREEDY) -> Completion:
    return in_order(model.generate([prompt], sampling), 1)[0]


def choice(model: LlamaCpp, prompt: Prompt, options: tuple[str, ...]) -> Choice:
    return in_order(model.choose([prompt], [options]), 1)[0]


def log_probabilities(reference: llama_cpp.Llama, text: str) -> tuple[list[int], np.ndarray]:
    """Tokens [n] of ``text`` and the log-probabilities [n, v] of what follows each of them."""
    tokens = reference.tokenize(text.encode(), add_bos=False, special=True)
    reference.reset()
    reference.eval(tokens)
    return tokens, log_softmax(reference.scores[: len(tokens)].astype(np.float64), axis=1)


def chain_rule(reference: llama_cpp.Llama, question: str, option: str) -> tuple[float, np.ndarray]:
    """Log-probability of ``option`` as the beginning of the answer, and the log-probabilities [v] of what follows it."""
    start = reference.tokenize(written(question).encode(), add_bos=False, special=True)
    tokens, logs = log_probabilities(reference, written(question) + option)
    assert tokens[: len(start)] == start
    return sum(logs[place - 1, tokens[place]] for place in range(len(start), len(tokens))), logs[-1]


# ---- writing answers


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_writing_without_a_gpu_does_without_torch(base_model: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.llm.llamacpp.GPUS", ())
    with LlamaCpp(base_model / "model.gguf", sequences=1, context=CONTEXT, device=device) as loaded:
        answer(loaded, PROMPTS[0], Sampling(max_tokens=1))
        assert "_forward" not in vars(loaded)


def test_more_prompts_than_sequences_are_all_answered_once(writer: LlamaCpp) -> None:
    results = list(writer.generate(PROMPTS, Sampling(max_tokens=2)))
    assert len(PROMPTS) > 2 * writer.sequences
    assert sorted(index for index, _ in results) == list(range(len(PROMPTS)))


def test_no_prompts_give_no_answers(writer: LlamaCpp) -> None:
    assert list(writer.generate([], GREEDY)) == []
    assert list(writer.choose([], [])) == []


def test_a_greedy_answer_is_the_same_alone_and_in_a_batch(writer: LlamaCpp, batch: list[Completion]) -> None:
    alone = [answer(writer, prompt) for prompt in PROMPTS]
    assert len(set(batch)) > 1
    assert [one.text for one in alone] == [one.text for one in batch]


def test_long_greedy_answers_are_the_same_alone_and_among_others_that_start_and_end_at_other_times(writer: LlamaCpp) -> None:
    sampling = Sampling(max_tokens=48)
    together = in_order(writer.generate(PROMPTS, sampling), len(PROMPTS))
    assert len({completion.completion_tokens for completion in together}) > 3
    alone = [in_order(writer.generate([prompt], sampling), 1)[0] for prompt in PROMPTS]
    assert [completion.text for completion in together] == [completion.text for completion in alone]


def test_a_greedy_answer_is_what_the_likeliest_token_gives_step_by_step(writer: LlamaCpp, reference: llama_cpp.Llama) -> None:
    text = written(QUESTIONS[6])
    tokens = []
    for _ in range(5):
        _, logs = log_probabilities(reference, text)
        tokens.append(int(logs[-1].argmax()))
        text += reference.detokenize(tokens[-1:]).decode()
    asked = len(reference.tokenize(written(QUESTIONS[6]).encode(), add_bos=False, special=True))
    found = answer(writer, PROMPTS[6], Sampling(max_tokens=5))
    assert found == Completion(reference.detokenize(tokens).decode(), "length", asked, 5)


def test_the_order_of_the_prompts_does_not_matter(writer: LlamaCpp, batch: list[Completion]) -> None:
    turned = in_order(writer.generate(PROMPTS[::-1], GREEDY), len(PROMPTS))[::-1]
    assert [one.text for one in turned] == [one.text for one in batch]


def test_the_same_seed_draws_the_same_texts(writer: LlamaCpp, drawn: list[Completion]) -> None:
    assert in_order(writer.generate(PROMPTS[:6], DRAWN), 6) == drawn


def test_another_repeat_draws_other_texts(writer: LlamaCpp, drawn: list[Completion]) -> None:
    other = in_order(writer.generate(PROMPTS[:6], DRAWN, [1] * 6), 6)
    assert sum(one.text != two.text for one, two in zip(other, drawn, strict=True)) >= 5


def test_several_answers_to_prompts_are_the_same_asked_at_once_and_apart(writer: LlamaCpp, drawn: list[Completion]) -> None:
    apart = [in_order(writer.generate(PROMPTS[:6], DRAWN, [repeat] * 6), 6) for repeat in range(3)]
    assert apart[0] == drawn
    assert several(writer, PROMPTS[:6], DRAWN, 3) == [list(answers) for answers in zip(*apart, strict=True)]


def test_another_seed_draws_other_texts(writer: LlamaCpp, drawn: list[Completion]) -> None:
    other = in_order(writer.generate(PROMPTS[:6], Sampling(max_tokens=6, temperature=1.0, seed=4)), 6)
    assert sum(one.text != two.text for one, two in zip(other, drawn, strict=True)) >= 5


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}])
def test_drawing_among_the_one_likeliest_token_is_greedy(writer: LlamaCpp, batch: list[Completion], narrow: dict[str, float]) -> None:
    found = in_order(writer.generate(PROMPTS[:4], Sampling(max_tokens=6, temperature=1.0, seed=3, **narrow)), 4)
    assert sum(one.text == other.text for one, other in zip(found, batch[:4], strict=True)) >= 3


def test_an_answer_ends_before_a_stop_string_that_spans_tokens(writer: LlamaCpp, batch: list[Completion]) -> None:
    whole = batch[6].text  # "The sun was setting over …"
    stop = whole[5:12]
    assert " " in stop.strip()
    found = answer(writer, PROMPTS[6], Sampling(max_tokens=6, stop=("never said", stop)))
    assert (found.text, found.finish) == (whole[: whole.index(stop)], "stop")


def test_the_first_of_several_stop_strings_in_the_text_counts(writer: LlamaCpp, batch: list[Completion]) -> None:
    whole = batch[6].text
    early, late = whole[2:4], whole[3:5]
    assert whole.index(early) < whole.index(late)
    assert answer(writer, PROMPTS[6], Sampling(max_tokens=6, stop=(late, early))).text == whole[: whole.index(early)]


def test_an_answer_that_is_cut_says_so(writer: LlamaCpp) -> None:
    found = answer(writer, PROMPTS[6], Sampling(max_tokens=3))
    assert (found.finish, found.completion_tokens) == ("length", 3)


def test_an_answer_that_the_model_ended_says_so(writer: LlamaCpp, reference: llama_cpp.Llama) -> None:
    found = answer(writer, PROMPTS[1], Sampling(max_tokens=60))
    assert found.finish == "stop"
    assert found.completion_tokens < 60
    _, logs = log_probabilities(reference, written(QUESTIONS[1]) + found.text)
    assert llama_cpp.llama_vocab_is_eog(llama_cpp.llama_model_get_vocab(reference.model), int(logs[-1].argmax()))
    assert "<|im_end|>" not in found.text


def test_a_long_prompt_among_short_ones_gets_its_own_answer(writer: LlamaCpp) -> None:
    long = chat("Here is a list of numbers. " + " ".join(str(n) for n in range(60)) + ". What is the capital of France?")
    found = in_order(writer.generate([*PROMPTS[:3], long], Sampling(max_tokens=6)), 4)[3]
    assert found.text == answer(writer, long, Sampling(max_tokens=6)).text
    assert found.prompt_tokens > 150


# ---- prompts that are too long

SENTENCES = " ".join(f"Sentence number {n} is about boats." for n in range(120))


def test_a_too_long_prompt_is_cut_at_a_sentence_and_counted(writer: LlamaCpp) -> None:
    found = answer(writer, chat(SENTENCES))
    kept = SENTENCES[: len(SENTENCES) - found.cut]
    assert found.cut > 0
    assert kept.endswith("about boats.")
    assert CONTEXT // 2 < found.prompt_tokens <= CONTEXT - GREEDY.max_tokens
    assert len(writer.tokenizer.tokens(written(kept))) == found.prompt_tokens


def test_a_too_long_question_is_cut_before_choosing_too(model: LlamaCpp) -> None:
    found = choice(model, chat(SENTENCES), ("yes", "no"))
    kept = SENTENCES[: len(SENTENCES) - found.cut]
    assert kept.endswith("about boats.")
    assert choice(model, chat(kept), ("yes", "no")) == Choice(found.probabilities, found.mass, found.prompt_tokens, 0)


def test_a_too_long_text_without_sentences_is_cut_anywhere(model: LlamaCpp) -> None:
    found = choice(model, chat("boat " * 900), ("yes", "no"))
    assert 0 < found.cut < 4500
    assert CONTEXT // 2 < found.prompt_tokens < CONTEXT


def test_a_prompt_that_fits_is_not_cut(batch: list[Completion]) -> None:
    assert [completion.cut for completion in batch] == [0] * len(batch)


def test_a_system_text_that_fills_the_context_is_refused(writer: LlamaCpp) -> None:
    with pytest.raises(InputError, match="no room"):
        answer(writer, chat("Is water wet?", system=SENTENCES))


def test_answers_that_would_fill_the_context_are_refused(writer: LlamaCpp) -> None:
    with pytest.raises(InputError, match=str(CONTEXT)):
        answer(writer, PROMPTS[0], Sampling(max_tokens=CONTEXT))


# ---- choosing among options


def test_more_questions_than_sequences_are_all_answered_once(model: LlamaCpp) -> None:
    assert sorted(index for index, _ in model.choose(PROMPTS, [("yes", "no")] * len(PROMPTS))) == list(range(len(PROMPTS)))


def test_probabilities_are_the_same_alone_and_in_a_batch(model: LlamaCpp, choices: list[Choice]) -> None:
    alone = [choice(model, prompt, OPTIONS) for prompt in PROMPTS]
    np.testing.assert_allclose([c.probabilities for c in choices], [c.probabilities for c in alone], atol=0.02)
    assert np.ptp([c.probabilities[0] for c in choices]) > 0.1


def test_prompts_may_have_options_of_their_own(model: LlamaCpp) -> None:
    own = [OPTIONS, ("Red", "Dark blue", "A shade of green"), ("7", "70"), OPTIONS]
    found = in_order(model.choose(PROMPTS[:4], own), 4)
    for prompt, options, together in zip(PROMPTS[:4], own, found, strict=True):
        alone = choice(model, prompt, options)
        np.testing.assert_allclose(together.probabilities, alone.probabilities, atol=0.02)
        assert np.log(together.mass) == pytest.approx(np.log(alone.mass), abs=0.1)


def test_probabilities_sum_to_one_and_the_mass_is_a_probability(choices: list[Choice]) -> None:
    for found in choices:
        assert sum(found.probabilities) == pytest.approx(1)
        assert min(found.probabilities) >= 0
        assert 0 < found.mass <= 1


@pytest.mark.parametrize("question", [QUESTIONS[4], QUESTIONS[5]])
def test_single_tokens_are_a_softmax_over_the_full_vocabulary(precise: LlamaCpp, reference: llama_cpp.Llama, question: str) -> None:
    options = ("yes", "no", "Yes", "The")
    tokens = [reference.tokenize(option.encode(), add_bos=False) for option in options]
    assert all(len(option) == 1 for option in tokens)
    prompt, logs = log_probabilities(reference, written(question))
    expected = logs[-1][[option[0] for option in tokens]]
    found = choice(precise, chat(question), options)
    np.testing.assert_allclose(found.probabilities, softmax(expected), atol=0.01)
    assert np.log(found.mass) == pytest.approx(logsumexp(expected), abs=0.05)
    assert found.prompt_tokens == len(prompt)


def test_options_of_several_tokens_follow_the_chain_rule(precise: LlamaCpp, reference: llama_cpp.Llama) -> None:
    question = "Is water wet? Answer: Strongly agree, Strongly disagree, or No opinion."
    options = ("Strongly agree", "Strongly disagree", "No opinion", "Water")
    expected = [chain_rule(reference, question, option)[0] for option in options]
    found = choice(precise, chat(question), options)
    np.testing.assert_allclose(found.probabilities, softmax(expected), atol=0.03)  # what rounding to bfloat16 in both may add up to
    assert np.log(found.mass) == pytest.approx(logsumexp(expected), abs=0.1)


def test_an_option_that_begins_another_counts_only_if_the_answer_ends_there(precise: LlamaCpp, reference: llama_cpp.Llama) -> None:
    question = "How much do you like boats? Reply with a number from 1 to 10 and nothing else."
    vocabulary = llama_cpp.llama_model_get_vocab(reference.model)
    endings = [token for token in range(reference.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, token)]
    assert reference.tokenize(b"<|im_end|>", add_bos=False, special=True)[0] in endings
    one, after_one = chain_rule(reference, question, "1")
    expected = [one + logsumexp(after_one[endings]), chain_rule(reference, question, "10")[0], chain_rule(reference, question, "7")[0]]
    found = choice(precise, chat(question), ("1", "10", "7"))
    np.testing.assert_allclose(found.probabilities, softmax(expected), atol=0.03)  # what rounding to bfloat16 in both may add up to
    assert np.log(found.mass) == pytest.approx(logsumexp(expected), abs=0.1)
    assert found.probabilities[0] + found.probabilities[1] != pytest.approx(softmax([one, expected[2]])[0], abs=0.01)


@pytest.mark.parametrize(("first", "last"), [(10, 99), (100, 399)])
def test_more_beginnings_than_llama_cpp_has_sequences_are_scored_in_parts(model: LlamaCpp, reference: llama_cpp.Llama, first: int, last: int) -> None:
    question = "Think of a number. Reply with the number and nothing else."
    options = tuple(f"{n}5" for n in range(first, last + 1))
    asked = [chat(question), PROMPTS[1], chat("Think of a very large number. Reply with the number and nothing else.")]
    found = in_order(model.choose(asked, [options] * 3), 3)[0]
    some = [options[0], options[len(options) // 2], options[-1]]
    expected = [chain_rule(reference, question, option)[0] for option in some]
    logs = np.log([found.probabilities[options.index(option)] for option in some])
    np.testing.assert_allclose(logs - logs.mean(), np.subtract(expected, np.mean(expected)), atol=0.05)  # rounding to bfloat16 moves each by .02
    assert sum(found.probabilities) == pytest.approx(1)


def test_the_order_of_the_options_does_not_matter(model: LlamaCpp) -> None:
    options = ("1", "10", "Strongly agree", "no")
    forward, backward = choice(model, PROMPTS[5], options), choice(model, PROMPTS[5], options[::-1])
    np.testing.assert_allclose(forward.probabilities, backward.probabilities[::-1], atol=0.001)


@pytest.mark.parametrize("options", [("yes", "yes"), ("yes", "")])
def test_options_that_cannot_be_told_apart_are_refused(model: LlamaCpp, options: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="options"):
        choice(model, PROMPTS[0], options)


# ---- adapters


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("adapter") / "adapter.gguf"
    random = np.random.default_rng(1)
    writer = GGUFWriter(file, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    writer.add_tensor("blk.5.attn_q.weight.lora_a", random.normal(size=(4, 576)).astype(np.float32))
    writer.add_tensor("blk.5.attn_q.weight.lora_b", random.normal(size=(576, 4)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_an_adapter_changes_answers_and_fingerprint_until_it_is_detached(model: LlamaCpp, adapter: Path) -> None:
    options = ("yes", "no", "The")
    plain, fingerprint = choice(model, PROMPTS[5], options), model.fingerprint
    model.attach(adapter)
    tuned, tuned_fingerprint = choice(model, PROMPTS[5], options), model.fingerprint
    model.attach(None)
    assert tuned_fingerprint != fingerprint
    assert np.abs(np.subtract(tuned.probabilities, plain.probabilities)).max() > 0.01
    assert (choice(model, PROMPTS[5], options), model.fingerprint) == (plain, fingerprint)


def test_a_refused_adapter_leaves_answers_and_fingerprint_in_agreement(model: LlamaCpp, adapter: Path, tmp_path: Path) -> None:
    options = ("yes", "no", "The")
    known = {model.fingerprint: choice(model, PROMPTS[5], options)}
    model.attach(adapter)
    known[model.fingerprint] = choice(model, PROMPTS[5], options)
    with pytest.raises(InputError, match="other.gguf"):
        model.attach(tmp_path / "other.gguf")
    found = model.fingerprint, choice(model, PROMPTS[5], options)
    model.attach(None)
    assert known[found[0]] == found[1]


def test_a_file_that_is_no_adapter_is_refused_by_name(model: LlamaCpp, tmp_path: Path) -> None:
    (tmp_path / "adapter.gguf").write_bytes(b"GGUF is not what follows")
    with pytest.raises(InputError, match="adapter.gguf"):
        model.attach(tmp_path / "adapter.gguf")


# ---- memory


def test_a_model_that_memory_does_not_suffice_for_is_refused_by_name(base_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=40 * 2**20))
    with pytest.raises(InputError, match=r"model\.gguf: .*20 MiB.*context"):
        LlamaCpp(base_model / "model.gguf", context=512)


def test_answers_that_nobody_waits_for_do_not_outlive_the_model(base_model: Path) -> None:
    with LlamaCpp(base_model / "model.gguf", sequences=2, context=CONTEXT) as loaded:
        writing = loaded.generate(PROMPTS, GREEDY)
        next(writing)
        in_order(loaded.generate(PROMPTS[:2], GREEDY), 2)
        assert len(loaded._contexts) == 1
    assert loaded._contexts == []
    writing.close()  # type: ignore[attr-defined]  # a generator


# ---- files


def test_a_missing_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.gguf: there is no such"):
        LlamaCpp(tmp_path / "absent.gguf")


@pytest.mark.parametrize("content", [b"", b"not a model at all\n" * 100, b"GGUF\x03\x00\x00\x00"])
def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.gguf").write_bytes(content)
    with pytest.raises(InputError, match=r"odd\.gguf: .*GGUF"):
        LlamaCpp(tmp_path / "odd.gguf")


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_model_is_refused_by_name(base_model: Path, tmp_path: Path, share: float) -> None:
    size = int((base_model / "model.gguf").stat().st_size * share)
    with (base_model / "model.gguf").open("rb") as source:
        (tmp_path / "half.gguf").write_bytes(source.read(size))
    with pytest.raises(InputError, match=r"half\.gguf: .*complete"):
        LlamaCpp(tmp_path / "half.gguf", sequences=1, context=256)
