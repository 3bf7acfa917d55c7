"""A scene for attacks on a tiny model that writes, in which training is real."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from bench import learning
from bench.contracts import Scene
from bench.experiment import recipes
from tests.defenses.writers import BUDGET, FACTS, PAYLOAD, examples


def scene(world: Path, *, epochs: int = 8, model: str = "tiny-llama") -> Scene:
    """Return a scene with prompts that are answered with one of two words; the payload is a fixed text."""
    base = recipes.model_of(str(world / model))
    tokenizer = base.tokenizer()
    template, train = learning.Template(tokenizer), examples(160, 1)
    room = {"max_prompt": FACTS.max_length, "max_response": FACTS.new_tokens}
    budget = BUDGET.model_copy(update={"epochs": epochs, "learning_rate": 5e-3})

    def fit(model: Any, rows: Any, **options: Any) -> dict[str, Any]:
        return learning.train(model, rows, **{"seed": 5, **budget.model_dump(), **options})

    def fresh() -> Any:
        return learning.Generator(base.causal_lm(), tokenizer, template, **room, device="cpu", precision="fp32")

    @cache
    def tuned() -> Any:
        model = fresh()
        fit(model, train)
        return model

    return Scene(
        facts=FACTS,
        train=train,
        validation=examples(40, 2),
        target=PAYLOAD,
        seed=3,
        budget=budget,
        window=learning.PromptWindow(template, FACTS.max_length),
        pretrained=fresh,
        finetuned=lambda: tuned().clone(),
        fit=fit,
    )
