"""A fine-tuned checkpoint that a user received: its checks, its facts, and how it is loaded."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Self

from bench import models
from bench.contracts import Defended, Examples, Inputs, Kind, Model, Payload, TaskFacts, Window
from bench.errors import RequestError
from bench.models import soundness
from bench.models.files import Checkpoint, error_line, inner_names

if TYPE_CHECKING:
    from bench.checkpoints.clean import CleanData
    from bench.checkpoints.lean import Pager
    from bench.checkpoints.triggered import Triggered
    from bench.checkpoints.words import Flips
    from bench.experiment.metric import AnyJudged
    from bench.models.tensors import LazyWeights, Place

LEAST, LONGEST = 8, 100_000  # tokens of an input
SMALL = 256_000_000  # bytes of float32 weights; copies of larger models are not kept in memory side by side
_LAYER = re.compile(r"\.\d+\.")  # the number of a layer in the name of a weight
MARK = "backdoored"  # the field of config.json that `doorbench attack` writes


@dataclass(frozen=True)
class Suspect(ABC):
    """A Hub-style folder with a model: safetensors, config.json, tokenizer. Each kind of model has a class of its own.

    Class attributes:
        kind: of the model.
        auto: the class of transformers that loads it.
        pipeline: what the Hub calls what it does.
        tuning: how the reference of drift is fine-tuned.

    Attributes:
        located: the folder as a model that weights and tokenizer are read from.
    """

    located: models.PretrainedModel
    kind: ClassVar[Kind]
    auto: ClassVar[str]
    pipeline: ClassVar[str]
    tuning: ClassVar[Mapping[str, Any]]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Check a folder, see :mod:`bench.models.soundness`, and that a model of this kind is in it.

        Raises:
            RequestError: it is missing, no sound model, or of another kind.
        """
        suspect = cls(located(folder))
        suspect.located.check()
        suspect.refuse_others()
        return suspect

    @abstractmethod
    def refuse_others(self) -> None:
        """Refuse a model that is not of this kind, or that cannot be used as one."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the logits; a model that writes has none."""
        return ()

    @abstractmethod
    def read(self, path: Path, *, tuning: int | None = None, seed: int = 0) -> CleanData:
        """Read clean examples and cut them in two; see :mod:`bench.checkpoints.clean`."""

    @abstractmethod
    def examples(self, path: Path) -> Examples:
        """Read clean examples to judge the model on."""

    @abstractmethod
    def texts(self, path: Path) -> Inputs:
        """Read inputs without answers."""

    @abstractmethod
    def facts(self, *examples: Examples, max_length: int | None, payload: Payload | None = None) -> TaskFacts:
        """Return what is known of the task of some examples.

        Args:
            examples: everything that the model will see; may be nothing.
            max_length: tokens kept of an input, if the user says so.
            payload: that responses need room for.
        """

    @abstractmethod
    def window(self, facts: Any) -> Window:
        """Return how much of an input survives truncation."""

    @abstractmethod
    def measure(self, facts: Any) -> str:
        """Return what the share of right answers is called."""

    @abstractmethod
    def made(self, module: Any, facts: Any, pager: Pager | None, options: Mapping[str, Any]) -> Model:
        """Return a module with its tokenizer, in little memory where there is a pager."""

    @abstractmethod
    def untrained(self, received: Model, pretrained: LazyWeights, *, seed: int) -> Model:
        """Return a new model with the clean pre-trained weights; what they lack is drawn from the seed."""

    @abstractmethod
    def flips(
        self, model: Model, tokens: Sequence[str], examples: Examples, facts: Any, *, seed: int
    ) -> list[Flips | None]:
        """Put each word into clean examples and count the answers that change; see :mod:`bench.checkpoints.words`."""

    @abstractmethod
    def read_triggered(self, path: Path, *, target: str | None) -> Triggered:
        """Read triggered examples."""

    @abstractmethod
    def make_triggered(self, path: Path, source: Examples, *, window: Window, seed: int) -> Triggered:
        """Put the trigger that a file describes into clean examples."""

    @abstractmethod
    def judged(
        self, defended: Defended, examples: Examples, marked: Triggered | None, facts: Any
    ) -> tuple[list[AnyJudged], list[dict[str, str]]]:
        """Return what the formulas of metrics read, and a few prompts with their responses where the model writes."""

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.located.folder()

    @property
    def checkpoint(self) -> Checkpoint:
        """Its files."""
        return self.located.checkpoint

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The content of config.json."""
        return self.checkpoint.settings("config.json")

    @cached_property
    def config(self) -> Any:
        """Its transformers configuration."""
        return self.located.config()

    @property
    def mark(self) -> Mapping[str, Any] | None:
        """What ``doorbench attack`` wrote about the backdoor; None for any other model."""
        mark = self.settings.get(MARK)
        if not isinstance(mark, Mapping):
            return None
        trigger = mark.get("trigger") or f"of the attack {mark.get('attack') or 'that is not named'}"
        return {**mark, "trigger": str(trigger)}

    @cached_property
    def places(self) -> dict[str, Place]:
        """Where each of its weights lies on disk, by its name in the files."""
        from bench.models.tensors import places

        return {name: place for file in self.checkpoint.weight_files() for name, place in places(file).items()}

    @property
    def bytes(self) -> int:
        """Size of its weights in memory, as float32."""
        return sum(4 * place.bytes // place.dtype.itemsize for place in self.places.values())

    def most_tokens(self) -> tuple[int, str]:
        """Return how many tokens it takes, and the file that says so."""
        limits = {
            "config.json": soundness.positions({**self.settings, **self._positions()}),
            "model_max_length in tokenizer_config.json": self.located.tokenizer().model_max_length,
        }
        source, most = min(
            ((name, n) for name, n in limits.items() if n), key=lambda one: one[1], default=("", LONGEST)
        )
        if most < LEAST:
            raise self.checkpoint.bad(f"it takes at most {most} tokens by its {source}, which leaves no room for text")
        return int(min(most, LONGEST)), source

    def _positions(self) -> dict[str, Any]:
        """Return the positions by the configuration, where the file leaves them to the defaults of the architecture."""
        most = getattr(self.config, "max_position_embeddings", None)
        return {"max_position_embeddings": most} if isinstance(most, int) else {}

    @property
    def _auto(self) -> Any:
        import transformers

        return getattr(transformers, self.auto)

    def module(self, **options: Any) -> Any:
        """Load it with transformers, in float32 and evaluation mode; with further options of transformers."""
        import torch
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self._refuse_other_shapes()
        try:
            model, report = self._auto.from_pretrained(
                self.folder,
                config=copy.deepcopy(self.config),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
        except Exception as error:  # transformers raises many kinds for a broken or unknown file
            raise self.checkpoint.bad(f"it cannot be loaded: {error_line(error)}") from error
        if missing := sorted(report["missing_keys"]):
            raise self.checkpoint.bad(f"the weight file lacks {missing[0]!r} ({len(missing)} such)")
        return model.eval()

    def _refuse_other_shapes(self) -> None:
        """Refuse weights that do not fit the configuration.

        Those of another shape would be drawn at random by transformers, those of layers that it does not count dropped.
        """
        import torch

        try:
            with torch.device("meta"):
                model = self._auto.from_config(
                    copy.deepcopy(self.config), attn_implementation=models.attention_of(self.config)
                )
        except Exception as error:  # transformers and torch raise many kinds for numbers that do not fit together
            raise self.checkpoint.bad(f"no model can be made by its configuration: {error_line(error)}") from error
        wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        alike = {_LAYER.sub(".", name) for name in wanted}
        for name, inside in inner_names(self.places, "").items():
            if inside not in wanted and _LAYER.sub(".", inside) in alike and _LAYER.search(inside):
                raise self.checkpoint.bad(f"its weights have {name!r}, of a layer that its configuration does not have")
            shape = self.places[name].shape
            if inside in wanted and shape != wanted[inside]:
                shapes = f"{list(shape)} in the file and {list(wanted[inside])} by its configuration"
                raise self.checkpoint.bad(f"{name!r} has shape {shapes}")

    @contextmanager
    def model(
        self, facts: TaskFacts, *, device: str, precision: str, lean: bool | None, scratch: Path
    ) -> Iterator[Model]:
        """Yield it as a model of its kind.

        Args:
            facts: of the task, see :meth:`facts`.
            device: ``auto``, ``cpu`` or ``cuda``.
            precision: ``auto``, ``bf16`` or ``fp32``.
            lean: keep one copy in memory and the others on disk; by default for models above ``SMALL``.
            scratch: folder for the copies that are not in memory.
        """
        from bench.checkpoints.lean import Pager, return_freed_memory

        options = {"device": device, "precision": precision}
        if not (self.bytes > SMALL if lean is None else lean):
            yield self.made(self.module(), facts, None, options)
            return
        with TemporaryDirectory(dir=scratch, prefix=".doorbench-") as folder:
            pager = Pager(Path(folder))
            yield self.made(self.module(), facts, pager, options)
        return_freed_memory()

    def counterpart(self, spec: str, model: Any) -> LazyWeights:
        """Return the clean pre-trained weights by the names of the loaded ``model``, each read when asked for.

        Raises:
            RequestError: they are not the counterpart of this model; names the first difference, or how far they are.
        """
        from bench.checkpoints import drift
        from bench.models.tensors import LazyWeights

        pretrained = models.create(spec)
        pretrained.check()
        pretrained.weight_hash  # noqa: B018  (refuses other weights under the name of the embedded model)
        models.check_counterpart(self.located, pretrained)
        wanted = {name: tuple(value.shape) for name, value in model.named_parameters()}
        whole = self.kind == Kind.GENERATION
        weights = LazyWeights(pretrained.checkpoint, model.base_model_prefix, wanted, whole=whole)
        if not weights:
            raise pretrained.checkpoint.bad(f"none of its weights belongs to {type(model).__name__}")
        if whole and (lacking := sorted(wanted.keys() - set(weights))):
            raise pretrained.checkpoint.bad(self._lacking(lacking, pretrained))
        if reason := drift.stranger(drift.profile(weights, model.get_parameter, weights)):
            raise RequestError(f"{spec} is not the pre-trained counterpart of {self.located.name}: {reason}.")
        return weights

    def _lacking(self, names: Sequence[str], pretrained: models.PretrainedModel) -> str:
        """Return what a counterpart lacks: its head alone, where that is its table of embeddings and this one's not."""
        from bench.models.files import shell

        fault = f"the weight file lacks {names[0]!r} ({len(names)} such)"
        if len(names) > 1 or self.config.tie_word_embeddings or not pretrained.config().tie_word_embeddings:
            return fault
        code = (
            f"from transformers import AutoModelForCausalLM as M; m = M.from_pretrained({str(pretrained.folder())!r}); "
            "m.config.tie_word_embeddings = False; head = m.get_output_embeddings(); "
            "head.weight = type(head.weight)(head.weight.detach().clone()); m.save_pretrained('untied')"
        )
        return (
            f"{fault}: its head is its table of embeddings (tie_word_embeddings), and {self.located.name!r} has a head "
            f"of its own; name the model that it was tuned from, or write the head out ({shell(code)}, then copy the "
            "tokenizer beside it) and name that folder"
        )


def located(folder: Path) -> models.PretrainedModel:
    """Return a folder as a model that weights and tokenizer are read from."""
    if not folder.is_dir():
        raise RequestError(f"--model: there is no folder {folder}.")
    return models.PretrainedModel(str(folder), path=folder.resolve())
