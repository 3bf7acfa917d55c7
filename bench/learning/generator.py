"""A transformers causal language model with its tokenizer and its chat template."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.contracts import FloatArray, Responses
from bench.contracts.dialogues import Dialogues
from bench.contracts.examples import Inputs, IntArray
from bench.errors import RequestError
from bench.learning import decoders, generation
from bench.learning.batches import by_budget, collate
from bench.learning.dialogues import EncodedDialogues, Template, encode, join
from bench.learning.language_model import LanguageModel, saved_facts
from bench.learning.responses import ResponseLoss
from bench.learning.tokens import Ids

if TYPE_CHECKING:
    from bench.models.pretrained import PretrainedModel

TOKEN_BUDGET = 4096
FRUGAL = 1024  # tokens at once where memory is scarce
FACTS = "generator.json"


class Generator(LanguageModel):
    """A causal language model of transformers, its fast tokenizer, its chat template and how they are used.

    Attributes:
        template: makes token ids of dialogues.
        max_prompt: tokens kept of a prompt, template and system text included.
        max_response: tokens kept of a response, its end token included, and most tokens that are written.
        token_budget: tokens that are scored at once.
        frugal: keep as little as possible in memory: few tokens go through the model at once, activations are computed
            twice in training, and weights are not kept in another form for generation.
    """

    frugal: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        template: Template,
        *,
        max_prompt: int,
        max_response: int,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        """Put the parts together.

        Raises:
            RequestError: the model's context is shorter than prompt and response together.
        """
        super().__init__(model, tokenizer, max_prompt + max_response, device=device, precision=precision)
        context = getattr(self.model.config, "max_position_embeddings", None)
        if context is not None and context < self.max_length:
            raise RequestError(
                f"model {template.name!r}: its context has {context} tokens, but the task wants {max_prompt} of a "
                f"prompt and {max_response} of a response; take a shorter max_length or another model."
            )
        self.template = template
        self.max_prompt, self.max_response = max_prompt, max_response
        self.token_budget = FRUGAL if self.frugal else TOKEN_BUDGET

    def encode(self, dialogues: Dialogues) -> EncodedDialogues:
        """Return the token ids of dialogues as this generator is trained on them and scores them."""
        return encode(self.template, dialogues, max_prompt=self.max_prompt, max_response=self.max_response)

    def objective(self, dialogues: Dialogues) -> ResponseLoss:
        """Return what it is trained on: the tokens of responses."""
        loss = ResponseLoss(self, dialogues)
        if self.frugal:
            loss.recompute, loss.together = True, FRUGAL
        return loss

    def respond(self, inputs: Inputs, *, most: int | None = None) -> list[Ids]:
        """Return what the model writes, greedily: int32 ids for each prompt.

        Args:
            inputs: n prompts; see :class:`bench.contracts.dialogues.Dialogues`.
            most: tokens that are written at most; ``max_response`` by default.

        Returns:
            The ids of each response. A response that ended has the token that ended it as its last one, so one
            without it was stopped at ``most``.
        """
        self.model.eval()
        return generation.greedy(
            self.model,
            self.template.prompts(inputs, self.max_prompt),
            most=most or self.max_response,
            stops=self.template.stops,
            low=self.precision == "bf16",
            often=not self.frugal,
            together=FRUGAL if self.frugal else generation.TOGETHER,
        )

    def padded(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        """Return prompts, without responses, as one batch that transformers models take."""
        prompts = self.template.prompts(inputs, self.max_prompt)
        nothing = [np.zeros(0, dtype=np.int32)] * len(prompts)
        batch = collate(join(prompts, nothing).tokens, np.arange(len(prompts)), 0)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def respond_with(self, inputs: Inputs, choose: generation.Choose, *others: Any) -> list[Ids]:
        """Return what the model writes where each token is chosen from logits: its own, then those of other models.

        Args:
            inputs: n prompts.
            choose: see :func:`bench.learning.generation.chosen`.
            others: generators with the same vocabulary and template, which read what was written so far.
        """
        models = [self.model, *(other.model for other in others)]
        for model in models:
            model.eval()
        return generation.chosen(
            models,
            self.template.prompts(inputs, self.max_prompt),
            most=self.max_response,
            stops=self.template.stops,
            low=self.precision == "bf16",
            choose=choose,
            often=not self.frugal,
            together=FRUGAL if self.frugal else generation.TOGETHER,
        )

    def predict(self, inputs: Inputs) -> Responses:
        """Return what the model writes, with nothing rejected."""
        return self.answers(self.respond(inputs))

    def answers(self, written: Sequence[Ids]) -> Responses:
        """Return what was written as responses, with nothing rejected."""
        ended = np.array([len(ids) > 0 and int(ids[-1]) in self.template.stops for ids in written], dtype=bool)
        tokens = tuple(ids[:-1] if end else ids for ids, end in zip(written, ended, strict=True))
        return Responses(tuple(self.words(written)), tokens, ended, np.zeros(len(written), dtype=bool))

    def words(self, responses: Sequence[Ids]) -> list[str]:
        """Return the text of responses, without the tokens that end them."""
        return [self.template.words(ids) for ids in responses]

    def log_likelihood(self, dialogues: Dialogues) -> tuple[NDArray[np.float64], IntArray]:
        """Return float64 [n]: the log-probability of each response given its prompt; int64 [n]: its tokens.

        The end token is one of them; a perplexity is ``exp(-sum of the first / sum of the second)``.
        """
        encoded = self.encode(dialogues)
        return np.array([logs.sum() for logs in self._token_scores(encoded)], dtype=np.float64), encoded.responses

    def plain_log_likelihood(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], IntArray]:
        """Return float64 [n]: the log-probability of each plain text behind an end token; int64 [n]: its tokens.

        There is no chat template, and none of the texts is empty. A text is cut to ``max_length`` tokens, end token
        included.
        """
        rows = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        ids = [np.array(row[: self.max_length - 1], dtype=np.int32) for row in rows]
        encoded = join([np.array([self.template.end], dtype=np.int32)] * len(ids), ids)
        return np.array([logs.sum() for logs in self._token_scores(encoded)], dtype=np.float64), encoded.responses

    @torch.inference_mode()
    def choose(self, inputs: Inputs, options: Sequence[str]) -> FloatArray:
        """Return float32 [n, options]: the log-probability of each option as the beginning of the response.

        Nothing is generated; where each option is a single token, all of them take one pass. For label words and
        multiple choice: an option that begins like another one has at least its probability, so none should.
        """
        prompts = self.template.prompts(inputs, self.max_prompt)
        offered = [ids[:-1] for ids in self.template.responses(options)]
        if any(len(option) != 1 for option in offered):
            each = join([ids for ids in prompts for _ in offered], [option for _ in prompts for option in offered])
            sums = [logs.sum() for logs in self._token_scores(each)]
            return np.array(sums, dtype=np.float32).reshape(len(prompts), len(offered))
        scores = np.zeros((len(prompts), len(offered)), dtype=np.float32)
        self.model.eval()
        encoded = join(prompts, offered[:1] * len(prompts))
        for rows in by_budget(encoded.tokens.lengths, self.token_budget):
            logits, _ = decoders.response_logits(self.model, encoded, rows, low=self.precision == "bf16")
            scores[rows] = logits.log_softmax(-1)[:, [int(option[0]) for option in offered]].cpu().numpy()
        return scores

    def _token_scores(self, encoded: EncodedDialogues) -> list[NDArray[np.float64]]:
        """Return the log-probability of each response token of each dialogue."""
        self.model.eval()
        scores: list[Any] = [None] * len(encoded)
        for rows in by_budget(encoded.tokens.lengths, self.token_budget):
            low = self.precision == "bf16"
            logs = decoders.token_scores(self.model, encoded, rows, low=low, often=not self.frugal)
            ends = np.cumsum(encoded.responses[rows])[:-1]
            for row, log in zip(rows, np.split(logs.double().cpu().numpy(), ends), strict=True):
                scores[row] = log
        return scores

    def clone(self) -> Generator:
        """Return an independent copy."""
        return Generator(
            copy.deepcopy(self.model),
            self.tokenizer,
            self.template,
            max_prompt=self.max_prompt,
            max_response=self.max_response,
            device=self.device,
            precision=self.precision,
        )

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors and what is needed to load them; the tokenizer is not written."""
        facts = {"max_prompt": self.max_prompt, "max_response": self.max_response, "template": self.template.source}
        self._save(folder, FACTS, facts)

    @staticmethod
    def load(
        folder: Path,
        pretrained: PretrainedModel,
        *,
        device: str = "auto",
        precision: str = "auto",
        weights: Callable[[Any], Mapping[str, torch.Tensor]] | None = None,
    ) -> Generator:
        """Read what :meth:`save` wrote; architecture and tokenizer come from the pre-trained model.

        Args:
            folder: where it is.
            pretrained: the model that it was trained from.
            device: see :class:`Generator`.
            precision: see :class:`Generator`.
            weights: returns the weights for a fresh model, where the folder holds them in another form.

        Raises:
            RequestError: the folder holds no saved generator.
        """
        facts = saved_facts(folder, FACTS, what="generator", with_weights=weights is None)
        tokenizer = pretrained.tokenizer()
        generator = Generator(
            pretrained.causal_lm(),
            tokenizer,
            Template(tokenizer, given=facts["template"], name=pretrained.name),
            max_prompt=facts["max_prompt"],
            max_response=facts["max_response"],
            device=device,
            precision=precision,
        )
        generator._restore(folder, weights)
        return generator
