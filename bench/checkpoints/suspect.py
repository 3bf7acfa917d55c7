"""A fine-tuned checkpoint that a user received: its checks, its facts, and how it is loaded."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import models
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.models import soundness
from bench.models.files import Checkpoint, error_line, inner_names

if TYPE_CHECKING:
    from bench.learning import Classifier
    from bench.models.tensors import LazyWeights, Place

LEAST, LONGEST = 8, 100_000  # tokens of an input
SMALL = 256_000_000  # bytes of float32 weights; copies of larger models are not kept in memory side by side
_LAYER = re.compile(r"\.\d+\.")  # the number of a layer in the name of a weight
MARK = "backdoored"  # the field of config.json that `doorbench attack` writes


@dataclass(frozen=True)
class Suspect:
    """A Hub-style folder with a sequence classifier: safetensors, config.json, tokenizer.

    Attributes:
        located: the folder as a model that weights and tokenizer are read from.
    """

    located: models.PretrainedModel

    @classmethod
    def open(cls, folder: Path) -> Suspect:
        """Check a folder, see :mod:`bench.models.soundness`, and that a classifier is in it.

        Raises:
            RequestError: it is missing, no sound model, or no single-label classifier.
        """
        if not folder.is_dir():
            raise RequestError(f"--model: there is no folder {folder}.")
        suspect = cls(models.PretrainedModel(str(folder), path=folder.resolve()))
        suspect.located.check()
        suspect._refuse_other_heads()
        return suspect

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
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the logits."""
        return tuple(str(self.config.id2label[i]) for i in range(self.config.num_labels))

    @property
    def mark(self) -> Mapping[str, Any] | None:
        """What ``doorbench attack`` wrote about the backdoor; None for any other model."""
        mark = self.settings.get(MARK)
        return mark if isinstance(mark, Mapping) else None

    def _refuse_other_heads(self) -> None:
        kinds = self.checkpoint.architectures()
        if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
            named = ", ".join(kinds) or "none"
            raise self.checkpoint.bad(f"it is no sequence classifier: its config.json names the architectures {named}")
        if self.settings.get("problem_type") in ("regression", "multi_label_classification"):
            raise self.checkpoint.bad(
                f"its problem type is {self.settings['problem_type']}; one label per text is needed"
            )
        self._refuse_odd_labels()
        if self.config.num_labels < 2:
            raise self.checkpoint.bad("it has one output, which is a regression; two labels or more are needed")

    def _refuse_odd_labels(self) -> None:
        """Refuse names of labels that do not count from 0, or whose two directions contradict each other."""
        names, numbers = self.settings.get("id2label"), self.settings.get("label2id")
        if names is not None:
            if not isinstance(names, dict) or set(names) != {str(number) for number in range(len(names))}:
                setting = f"id2label = {str(names)[:60]!r}"
                raise self.checkpoint.bad(f"config.json: {setting} does not give a name to each number from 0 on")
            called = [str(name) for name in names.values()]
            if twice := [name for name in called if called.count(name) > 1]:
                raise self.checkpoint.bad(
                    f"config.json: id2label calls two labels {twice[0]!r}; give each its own name"
                )
            for name, number in numbers.items() if isinstance(numbers, dict) else ():
                if name in names.values() and names.get(str(number)) != name:
                    raise self.checkpoint.bad(f"config.json: label2id and id2label do not agree on the label {name!r}")

    @cached_property
    def places(self) -> dict[str, Place]:
        """Where each of its weights lies on disk, by its name in the files."""
        from bench.models.tensors import places

        return {name: place for file in self.checkpoint.weight_files() for name, place in places(file).items()}

    @property
    def bytes(self) -> int:
        """Size of its weights in memory, as float32."""
        return sum(4 * place.bytes // place.dtype.itemsize for place in self.places.values())

    def window(self, wanted: int | None) -> int:
        """Return how many tokens of an input it sees: as many as wanted, 128 by default, within what it can take."""
        limits = {
            "config.json": soundness.positions({**self.settings, **self._positions()}),
            "model_max_length in tokenizer_config.json": self.located.tokenizer().model_max_length,
        }
        source, most = min(
            ((name, n) for name, n in limits.items() if n), key=lambda one: one[1], default=("", LONGEST)
        )
        if most < LEAST:
            raise self.checkpoint.bad(f"it takes at most {most} tokens by its {source}, which leaves no room for text")
        if wanted is not None and wanted > most:
            raise self.checkpoint.bad(f"it takes at most {most} tokens by its {source}, not {wanted}")
        return int(min(wanted or 128, most))

    def _positions(self) -> dict[str, Any]:
        """Return the positions by the configuration, where the file leaves them to the defaults of the architecture."""
        most = getattr(self.config, "max_position_embeddings", None)
        return {"max_position_embeddings": most} if isinstance(most, int) else {}

    def module(self) -> Any:
        """Load it with transformers, in float32 and evaluation mode."""
        import torch
        from transformers import AutoModelForSequenceClassification
        from transformers.utils import logging

        auto: Any = AutoModelForSequenceClassification
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self._refuse_other_shapes()
        try:
            model, report = auto.from_pretrained(
                self.folder,
                config=copy.deepcopy(self.config),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation=models.attention_of(self.config),
                output_loading_info=True,
            )
        except Exception as error:  # transformers raises many kinds for a broken or unknown file
            raise self.checkpoint.bad(f"it cannot be loaded: {error_line(error)}") from error
        if missing := sorted(report["missing_keys"]):
            raise self.checkpoint.bad(f"the weight file lacks {missing[0]!r} ({len(missing)} such)")
        if getattr(model.config, "pad_token_id", None) is None:
            model.config.pad_token_id = self.located.tokenizer().pad_token_id
        return model.eval()

    def _refuse_other_shapes(self) -> None:
        """Refuse weights that do not fit the configuration.

        Those of another shape would be drawn at random by transformers, those of layers that it does not count dropped.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        auto: Any = AutoModelForSequenceClassification
        try:
            with torch.device("meta"):
                model = auto.from_config(
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
    def classifier(
        self, *, max_length: int, device: str, precision: str, lean: bool | None, scratch: Path
    ) -> Iterator[Classifier]:
        """Yield it as a classifier.

        Args:
            max_length: tokens kept of an input.
            device: ``auto``, ``cpu`` or ``cuda``.
            precision: ``auto``, ``bf16`` or ``fp32``.
            lean: keep one copy in memory and the others on disk; by default for models above ``SMALL``.
            scratch: folder for the copies that are not in memory.
        """
        from bench import learning
        from bench.checkpoints.lean import LeanClassifier, Pager, return_freed_memory

        tokenizer, options = self.located.tokenizer(), {"device": device, "precision": precision}
        if not (self.bytes > SMALL if lean is None else lean):
            yield self._sound(learning.Classifier(self.module(), tokenizer, max_length, **options))
            return
        with TemporaryDirectory(dir=scratch, prefix=".doorbench-") as folder:
            pager = Pager(Path(folder))
            yield self._sound(LeanClassifier(self.module(), tokenizer, max_length, pager=pager, **options))
        return_freed_memory()

    def _sound(self, classifier: Classifier) -> Classifier:
        """Return a classifier; one whose answers are no numbers is refused, as its labels would be those of chance."""
        if not np.isfinite(classifier.logits(Inputs(("a text",)))).all():
            what = "its weights are finite, but what it answers is not: they were damaged or diverged"
            raise self.checkpoint.bad(what)
        return classifier

    @staticmethod
    def untrained(received: Classifier, pretrained: LazyWeights, *, seed: int) -> Classifier:
        """Return a new classifier: the clean pre-trained encoder with a head drawn from the seed."""
        from bench import learning

        fresh = received.clone()
        for name in pretrained:
            fresh.model.get_parameter(name).data.copy_(pretrained[name])
        learning.reinitialise_head(fresh, seed=seed)
        return fresh

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
        weights = LazyWeights(pretrained.checkpoint, model.base_model_prefix, wanted)
        if not weights:
            raise pretrained.checkpoint.bad(f"none of its weights belongs to {type(model).__name__}")
        if reason := drift.stranger(drift.profile(weights, model.get_parameter, weights)):
            raise RequestError(f"{spec} is not the pre-trained counterpart of {self.located.name}: {reason}.")
        return weights
