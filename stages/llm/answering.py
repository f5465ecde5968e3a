"""The answer of a server to one prompt: a text, or probabilities of options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from stages.llm import chat, naming
from stages.llm.chat import Body, Reply
from stages.llm.connection import Connection, RefusedError, Run
from stages.llm.cutting import cut_at_sentence
from stages.llm.endpoint import Endpoint
from stages.llm.interface import Choice, Completion, Message, Prompt


@dataclass(frozen=True)
class Asked:
    """A reply, and the request that it answers."""

    reply: Reply
    body: Body
    prompt: Prompt
    "as it was sent"
    cut: int = 0
    "characters that had to be left out of the prompt"

    @property
    def prompt_tokens(self) -> int:
        """Of the prompt as it was sent, as the server counts them."""
        return self.reply.prompt_tokens(self.body)


@dataclass(frozen=True)
class Answering:
    """Makes answers of the replies to as many requests as each takes. ``given`` is a reply that came before: the first request is not sent then."""

    endpoint: Endpoint
    connection: Connection

    async def write(self, request: Callable[[Prompt], Body], prompt: Prompt, run: Run, given: Asked | None) -> Completion:
        """A text; an empty one where the content filter withholds it.

        :raises RefusedError: if the server refuses for another reason.
        """
        try:
            asked = given or await self._ask(request, prompt, run)
        except RefusedError as refused:
            if refused.reason != "withheld":
                raise
            return Completion("", "stop", 0, 0)
        return asked.reply.completion(asked.body, asked.cut)

    async def choose(self, options: Sequence[str], prompt: Prompt, run: Run, given: Asked | None) -> Choice:
        """Probabilities of ``options``, as :meth:`stages.llm.server.Server.choose` says; equal ones of mass 0 where the content filter withholds the answer.

        :raises RefusedError: if the server refuses for another reason.
        """
        listed: dict[str, naming.Listing] = {}
        try:
            if not self.endpoint.top_logprobs:
                return await self._vote(options, prompt, run, listed, given)
            asked = await self._list(prompt, run, listed, given)
            if asked:
                found = await self._follow(options, asked.prompt, run, listed)
                if found:
                    return Choice(found.probabilities, found.mass, asked.prompt_tokens, asked.cut)
            return await self._vote(options, prompt, run, listed, None)
        except RefusedError as refused:
            if refused.reason != "withheld":
                raise
            return Choice((1 / len(options),) * len(options), 0.0, 0)

    async def _list(self, prompt: Prompt, run: Run, listed: dict[str, naming.Listing], given: Asked | None) -> Asked | None:
        """Ask for the likeliest first tokens; nothing if the server gives none."""
        try:
            asked = given or await self._ask(partial(chat.listing, self.endpoint, ""), prompt, run)
        except RefusedError as refused:
            if refused.reason != "no log-probabilities":
                raise
            return None
        listed |= asked.reply.listed(self.endpoint.top_logprobs)
        return asked if listed else None

    async def _follow(self, options: Sequence[str], prompt: Prompt, run: Run, listed: dict[str, naming.Listing]) -> naming.Naming | None:
        """Ask on after the beginnings that options share, while the server lets itself be told how to begin and reports the probabilities of free answers all the same."""
        while isinstance(found := naming.by_tokens(listed, options), naming.Untold):
            if self.endpoint.speaks_openai:
                return None
            after = (await self._ask(partial(chat.listing, self.endpoint, found.beginning), prompt, run)).reply.listed(self.endpoint.top_logprobs)
            if found.beginning not in after or naming.is_constrained(after.get("", ()), found.beginning):
                return None
            listed |= {beginning: after[beginning] for beginning in after if beginning not in listed}
        return found

    async def _vote(self, options: Sequence[str], prompt: Prompt, run: Run, listed: dict[str, naming.Listing], given: Asked | None) -> Choice:
        """Choose by drawn answers: by the probabilities along them if those suffice at last, or else by their number."""
        known, texts = bool(listed), list[str]()
        while len(texts) < self.endpoint.votes:
            asked = given or await self._ask(partial(chat.voting, self.endpoint, options, len(texts), listed=known), prompt, run)
            given = None
            texts += asked.reply.texts
            listed |= {beginning: tokens for beginning, tokens in asked.reply.listed(self.endpoint.top_logprobs).items() if beginning not in listed}
            if known and isinstance(found := naming.by_tokens(listed, options), naming.Naming):
                break
        else:
            found = naming.by_votes(texts[: self.endpoint.votes], options)
        return Choice(found.probabilities, found.mass, asked.prompt_tokens, asked.cut)

    async def _ask(self, request: Callable[[Prompt], Body], prompt: Prompt, run: Run) -> Asked:
        """Send a request, with a shorter last turn while the server finds the prompt too long."""
        cut = 0
        while True:
            body = request(prompt)
            try:
                return Asked(await self.connection.chat(body, run), body, prompt, cut)
            except RefusedError as refused:
                text = prompt[-1].content
                shorter = cut_at_sentence(text, len(text) * 3 // 4)
                if refused.reason != "too long" or not shorter:
                    raise
            prompt, cut = (*prompt[:-1], Message(prompt[-1].role, shorter)), cut + len(text) - len(shorter)
