"""What a model folder brings along: it is used as it is, or every command refuses it in a line that says what to do."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bench import models
from bench.checkpoints.kinds import opened
from bench.contracts.examples import Inputs
from bench.errors import RequestError
from bench.experiment.plan import Plan
from bench.learning import Classifier
from bench.models import soundness
from bench.suites import suite


@pytest.fixture(scope="session")
def encoder(world: Path) -> Path:
    return world / "tiny-bert"


@pytest.fixture(scope="session")
def tuned(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned classifier of the tiny encoder."""
    folder = tmp_path_factory.mktemp("tuned") / "model"
    located = models.create(str(encoder))
    located.classifier_model(classes=2, seed=0).save_pretrained(folder)
    located.tokenizer().save_pretrained(folder)
    return folder


Change = Callable[[Path], None]


def fields(file: str, **changes: Any) -> Change:
    """Return a change of fields in a JSON file; ``...`` removes one."""

    def change(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) if path.is_file() else {}
        content = {name: value for name, value in {**content, **changes}.items() if value is not ...}
        path.write_text(json.dumps(content))

    return change


def text(file: str, content: bytes) -> Change:
    return lambda folder: (folder / file).write_bytes(content) and None


def remove(*patterns: str) -> Change:
    def change(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def changed(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return changed


def spoiled(value: float, dtype: torch.dtype) -> Change:
    def spoil(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state = {name: tensor.to(dtype) for name, tensor in state.items()}
        last = state[sorted(state)[-1]]
        last.view(-1)[-1] = value
        return state

    return weights(spoil)


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")


def marked(folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def macos(folder: Path) -> None:
    for name in [path.name for path in folder.iterdir()] + ["x.model", "x.bin"]:
        (folder / f"._{name}").write_bytes(b"\0\5\x16\7")


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


LABELS = {"LABEL_0": 0, "LABEL_1": 1}
BOTH: dict[str, tuple[Change, str]] = {  # of an encoder and of a classifier
    "no tokenizer": (remove("tokenizer*", "vocab*", "special*"), "no tokenizer; put its tokenizer.json"),
    "a tokenizer without words": (remove("tokenizer.json", "vocab*"), "no tokenizer; put its tokenizer.json"),
    "half of the words": (both(remove("tokenizer.json"), text("vocab.json", b'{"a": 0}')), "no tokenizer"),
    "no configuration": (remove("config.json"), "no config.json"),
    "a list": (text("config.json", b"[{}]"), "config.json: is no JSON object"),
    "a mark before it": (marked, "byte order mark"),
    "no JSON": (text("config.json", b"{"), "config.json"),
    "JSON of numbers": (text("tokenizer_config.json", b"3"), "tokenizer_config.json: is no JSON object"),
    "not UTF-8": (text("config.json", b'{"a": "\xff"}'), "UTF-8"),
    "code": (fields("config.json", auto_map={"AutoModel": "x.X"}), "auto_map"),
    "code of a tokenizer": (fields("tokenizer_config.json", auto_map={"AutoTokenizer": "x.X"}), "auto_map"),
    "no weights": (remove("*.safetensors"), "no model.safetensors"),
    "pickled": (pickled, "pickled weights only"),
    "shards without an index": (sharded, "model.safetensors.index.json"),
    "another name": (lambda f: (f / "model.safetensors").rename(f / "best.safetensors") and None, "rename it"),
    "damaged": (text("model.safetensors", b"\xff" * 100), "not a readable safetensors file"),
    "parallel": (weights(lambda state: {f"module.{n}": t for n, t in state.items()}), "DataParallel"),
    "compiled": (weights(lambda state: {f"_orig_mod.{n}": t for n, t in state.items()}), "torch.compile"),
    "an adapter beside it": (fields("adapter_config.json", base_model_name_or_path="b"), "PEFT adapter"),
    "an adapter alone": (
        both(remove("*.safetensors"), fields("adapter_config.json", peft_type="LORA")), "merge"),
    "nothing but an adapter": (
        both(remove("*"), fields("adapter_config.json", peft_type="LORA"), text("adapter_model.safetensors", b"")),
        "merge"),
    "a type that is none": (fields("config.json", dtype="half16"), "configuration cannot be read"),
    "a number of a token as a text": (fields("config.json", eos_token_id="1000"), "configuration cannot be read"),
    "a truth as a text": (fields("config.json", tie_word_embeddings="true"), "configuration cannot be read"),
    "NaN": (spoiled(float("nan"), torch.float32), "is not finite"),
    "infinite": (spoiled(float("-inf"), torch.float32), "is not finite"),
    "infinite in half precision": (spoiled(float("inf"), torch.float16), "is not finite"),
    "infinite in bfloat16": (spoiled(float("inf"), torch.bfloat16), "is not finite"),
    "infinite in double precision": (spoiled(float("nan"), torch.float64), "is not finite"),
    "quantised": (fields("config.json", quantization_config={"bits": 4}), "quantised"),
    "no architecture": (fields("config.json", model_type=...), "model_type"),
    "an architecture of tomorrow": (fields("config.json", model_type="bert7"), "does not know"),
    "no size": (fields("config.json", hidden_size="16"), "hidden_size"),
    "no heads": (fields("config.json", num_attention_heads=0), "num_attention_heads"),
    "a million layers": (fields("config.json", num_hidden_layers=10**6), "more than 1,000"),
    "positions that transformers dropped": (
        fields("config.json", position_embedding_type="relative_key_query"), "position_embedding_type"),
    "a padding token that is none": (fields("config.json", pad_token_id=10**6), "pad_token_id"),
    "padding by name": (fields("config.json", pad_token_id="[PAD]"), "pad_token_id"),
    "no length": (fields("tokenizer_config.json", model_max_length="long"), "model_max_length"),
    "no length at all": (fields("tokenizer_config.json", model_max_length=-1), "model_max_length"),
    "names of inputs": (fields("tokenizer_config.json", model_input_names="input_ids"), "model_input_names"),
}  # fmt: skip
CLASSIFIERS: dict[str, tuple[Change, str]] = {
    "labels from 1": (fields("config.json", id2label={"1": "neg", "2": "pos"}), "from 0 on"),
    "labels in a list": (fields("config.json", id2label=["neg", "pos"]), "from 0 on"),
    "labels that contradict": (
        fields("config.json", id2label={"0": "neg", "1": "pos"}, label2id={"neg": 1, "pos": 0}), "do not agree"),
    "more labels than outputs": (fields("config.json", id2label={"0": "a", "1": "b", "2": "c"}, label2id=...), "shape"),
    "another size": (fields("config.json", intermediate_size=8), "shape"),
    "no room for text": (fields("tokenizer_config.json", model_max_length=2), "leaves no room"),
    "another head": (fields("config.json", architectures=["BertForMaskedLM"]), "architectures BertForMaskedLM"),
    "another head as a text": (fields("config.json", architectures="BertModel"), "architectures BertModel"),
    "a regression": (fields("config.json", problem_type="regression"), "regression"),
}  # fmt: skip
GOOD: dict[str, Change] = {
    "as it is": lambda folder: None,
    "an architecture as a text": fields("config.json", architectures="BertForSequenceClassification"),
    "infinity in the configuration": fields("config.json", time_step_limit=[0.0, float("inf")]),
    "padding below 0": fields("config.json", pad_token_id=-1),
    "attention that is not installed": fields("config.json", attn_implementation="flash_attention_2"),
    "attention of before": fields("config.json", _attn_implementation="flash_attention_3"),
    "attention from the Hub": fields("config.json", attn_implementation="kernels-community/flash-attn"),
    "no directions back": fields("config.json", label2id=...),
    "default directions back": fields("config.json", label2id=LABELS, id2label={"0": "a", "1": "b"}),
    "files of macOS": macos,
    "half precision": weights(lambda state: {name: tensor.half() for name, tensor in state.items()}),
}  # fmt: skip


def changed(folder: Path, place: Path, change: Change) -> Path:
    copy = Path(shutil.copytree(folder, place / "model"))
    change(copy)
    return copy


def use(folder: Path) -> None:
    """Do with a pre-trained model what a run does."""
    located = models.create(str(folder))
    located.check(tokens=32)
    Classifier(located.classifier_model(classes=2, seed=0), located.tokenizer(), 32).logits(Inputs(("a film",)))


def open_(folder: Path) -> Any:
    """Do with a classifier what purify and inspect do."""
    suspect = opened(folder)
    length = suspect.facts(max_length=None).max_length
    return Classifier(suspect.module(), suspect.located.tokenizer(), length).logits(Inputs(("a film", "a bad film")))


@pytest.mark.parametrize("what", BOTH)
@pytest.mark.parametrize("way", ["pre-trained", "suspect"])
def test_what_no_model_may_bring_along(encoder: Path, tuned: Path, tmp_path: Path, what: str, way: str) -> None:
    change, message = BOTH[what]
    folder = changed(encoder if way == "pre-trained" else tuned, tmp_path, change)
    with pytest.raises(RequestError) as error:
        (use if way == "pre-trained" else open_)(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("what", CLASSIFIERS)
def test_what_no_classifier_may_bring_along(tuned: Path, tmp_path: Path, what: str) -> None:
    change, message = CLASSIFIERS[what]
    with pytest.raises(RequestError) as error:
        open_(changed(tuned, tmp_path, change))
    assert message in str(error.value) and "\n" not in str(error.value) and "ignore_mismatched" not in str(error.value)


@pytest.mark.parametrize("what", GOOD)
def test_what_a_model_may_bring_along(encoder: Path, tuned: Path, tmp_path: Path, what: str) -> None:
    logits = open_(changed(tuned, tmp_path / "a", GOOD[what]))
    assert np.allclose(logits, open_(tuned), atol=1e-2 if what == "half precision" else 0.0)
    use(changed(encoder, tmp_path / "b", GOOD[what]))


@pytest.mark.parametrize("kind", ["masked_lm", "causal_lm"])
def test_models_with_a_head_take_the_attention_that_is_installed(tmp_path: Path, kind: str) -> None:
    from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

    size = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**size)) if kind == "masked_lm" else LlamaForCausalLM(LlamaConfig(**size))
    model.save_pretrained(tmp_path)
    fields("config.json", attn_implementation="flash_attention_2")(tmp_path)
    ids = torch.arange(6)[None]
    read = getattr(models.create(str(tmp_path)), kind)()
    assert torch.allclose(read(input_ids=ids).logits, model.eval()(input_ids=ids).logits, atol=1e-6)


@pytest.mark.parametrize("what", ["a link to the folder", "links to the files"])
def test_links_are_followed(tuned: Path, tmp_path: Path, what: str) -> None:
    link = tmp_path / "latest"
    if what == "a link to the folder":
        link.symlink_to(tuned)
    else:
        link.mkdir()
        for path in tuned.iterdir():
            (link / path.name).symlink_to(path)
    assert (open_(link) == open_(tuned)).all()


def test_a_run_is_refused_before_it_begins(encoder: Path, tmp_path: Path) -> None:
    def plan(folder: Path, length: int) -> Plan:
        task = {"name": "local/single", "max_length": length}
        data = {
            "name": "x",
            "description": "d",
            "task": task,
            "model": str(folder),
            "attack": "badword",
            "defense": "none",
        }
        return Plan(suite.check(data, "x"))

    plan(encoder, 512).check_models()
    short = changed(encoder, tmp_path / "short", fields("config.json", max_position_embeddings=64))
    plan(short, 64).check_models()
    with pytest.raises(RequestError, match="at most 64 tokens.*wants 65; say max_length=64"):
        plan(short, 65).check_models()
    with pytest.raises(RequestError, match="not finite"):
        plan(changed(encoder, tmp_path, BOTH["NaN"][0]), 64).check_models()
    same = tmp_path / "elsewhere" / encoder.name
    shutil.copytree(encoder, same)
    both = plan(encoder, 64).suite.model_copy(update={"model": [str(encoder), f"local/{encoder}"]})
    Plan(both).check_models()  # one folder, spelt in two ways
    with pytest.raises(RequestError, match=f"tables would call both local/{encoder.name}; rename one"):
        Plan(both.model_copy(update={"model": [str(encoder), str(same)]})).check_models()


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 0}, 513),
        ({"model_type": "mpnet", "max_position_embeddings": 514}, 512),
        ({"model_type": "gpt2", "n_positions": 1024}, 1024),
        ({"model_type": "xlnet"}, None),
        ({"model_type": "xlnet", "max_position_embeddings": -1}, None),
    ],
)
def test_positions(settings: dict[str, Any], most: int | None) -> None:
    assert soundness.positions(settings) == most


def test_the_advice_for_pickled_weights_leads_somewhere(
    tuned: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, source, use_it in (("a", tuned, open_), ("b", encoder, use)):
        folder = changed(source, tmp_path / name, pickled)
        with pytest.raises(RequestError) as error:
            use_it(folder)
        advice = re.search(r"trust the file: (.*)\)", str(error.value))
        assert advice is not None
        program, option, code = shlex.split(advice[1])
        assert (program, option) == ("python", "-c")
        monkeypatch.chdir(folder.parent)
        exec(code, {})
        use_it(folder.parent / "converted")


def test_a_tokenizer_without_a_token_to_pad_with(tuned: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        remove("special_tokens_map.json")(folder)
        removed = {f"{name}_token": ... for name in ("pad", "eos", "bos", "unk", "cls", "sep", "mask")}
        fields("tokenizer_config.json", **removed, tokenizer_class="PreTrainedTokenizerFast")(folder)

    with pytest.raises(RequestError, match="no token to pad with"):
        open_(changed(tuned, tmp_path, change))


VALUES = (None, -1, 0, 1.5, True, "x", "", [], [1], {}, {"a": 1}, 10**30)


def test_any_value_of_any_field_is_taken_or_refused_in_one_line(tuned: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for file in ("config.json", "tokenizer_config.json"):
        names = [*json.loads((tuned / file).read_text()), "problem_type", "type_vocab_size", "id2label", "dtype"]
        for name in names:
            for i in rng.choice(len(VALUES), 3, replace=False):
                folder = changed(tuned, tmp_path / "fuzz", fields(file, **{name: VALUES[i]}))
                try:
                    open_(folder)
                except RequestError as error:
                    assert str(error)
                shutil.rmtree(tmp_path / "fuzz")
