"""How a model that acts is judged: it plays each episode to its end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contracts import Defended, Environment, GenerationFacts, Responses
from bench.contracts.examples import Examples, Inputs


def answered(defended: Defended, examples: Examples, facts: GenerationFacts) -> tuple[Responses, NDArray[Any]]:
    """Return what a model answers to examples, and how right that is: float or bool [n].

    Where a task has an environment, an answer is all that the model does up to the end of the episode.
    """
    environment = facts.utility
    if not isinstance(environment, Environment):
        responses = said(defended, examples.inputs)
        return responses, facts.judge(responses, examples).right
    responses = play(defended, examples.inputs, environment)
    rewards = environment.rewards(responses.texts, examples.references)
    return responses, np.where(responses.rejected, 0.0, rewards)


def said(defended: Defended, inputs: Inputs) -> Responses:
    """Return what a defended model writes, after checking its shape."""
    responses: Responses = defended.predict(inputs)
    n = len(inputs)
    if not len(responses.texts) == len(responses.tokens) == len(responses.ended) == len(responses.rejected) == n:
        raise ValueError(f"{type(defended).__name__}.predict returned responses that do not fit {n} prompts")
    return responses


def play(defended: Defended, inputs: Inputs, environment: Environment) -> Responses:
    """Return what a model does from n prompts on: the acts that were possible, one a line, and the tokens of all turns.

    An episode ends as the environment says, after its most turns, or where the defense refuses to answer, which rejects
    the whole episode. It has ended by itself if every one of its responses has.
    """
    n = len(inputs)
    prompts, acts = list(inputs.carrier), [list[str]() for _ in range(n)]
    tokens: list[list[NDArray[np.int32]]] = [[] for _ in range(n)]
    ended, rejected, active = np.ones(n, dtype=bool), np.zeros(n, dtype=bool), list(range(n))
    for _ in range(environment.turns):
        if not active:
            break
        turn = said(defended, inputs.take(active).with_carrier([prompts[row] for row in active]))
        answers = zip(active, turn.texts, turn.tokens, turn.ended, turn.rejected, strict=True)
        active = []
        for row, text, ids, end, refused in answers:
            tokens[row].append(ids)
            ended[row] &= end
            rejected[row] |= refused
            act, following = ("", None) if refused else environment.proceed(prompts[row], text)
            acts[row] += [act] if act else []
            if following is not None:
                prompts[row] = following
                active.append(row)
    texts = tuple("\n".join(done) for done in acts)
    empty = np.zeros(0, dtype=np.int32)
    return Responses(texts, tuple(np.concatenate([empty, *ids]) for ids in tokens), ended, rejected)
