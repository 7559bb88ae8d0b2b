"""Named models and datasets of the Hugging Face hub.

Nothing here was checked against the hub: ids, licences' names and sizes are what public sources say, and `unverified`
names what they leave open. Ids, access and files are found out when a sweep is prepared, before anything is trained.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rayfit.presets import MADE_MODELS

# fp32 master weights, their two Adam moments and gradients; the bf16 copy that is computed with comes on top.
STATE_BYTES_PER_PARAMETER = 4 + 4 + 4 + 4


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model on the hub. `billions` is the size that its name says; the exact count is known once it is loaded.

    `num_workers` (GPUs) and `zero_stage` are what full fine-tuning is sensibly asked for with; like all placement
    they are part of no id. It computes in bf16 with fp32 master weights, as every model does.
    """

    hub_id: str
    billions: float
    licence: str
    num_workers: int
    zero_stage: int
    needs: str = ""
    unverified: tuple[str, ...] = ()

    @property
    def state_gib_per_worker(self) -> float:
        """GiB of weights, gradients and Adam's moments that each worker holds, by formula; activations come on top.

        ZeRO divides the moments and master weights (stage 1), gradients too (2), everything (3) by the workers.
        """
        divided = {0: 0, 1: 12, 2: 16, 3: 16}[self.zero_stage]
        whole = STATE_BYTES_PER_PARAMETER - divided
        return self.billions * 1e9 * (whole + divided / self.num_workers) / 2**30


_META = "Llama 3.1 Community License"
_META_NEEDS = "access asked for on its hub page and `hf auth login`"
_DEEPSEEK = "DeepSeek (its own)"

HUB_MODELS: dict[str, HubModel] = {
    "tinyllama-1.1b": HubModel(
        hub_id="TinyLlama/TinyLlama_v1.1",
        billions=1.1,
        licence="Apache 2.0",
        num_workers=1,
        zero_stage=1,
        unverified=("that it is the paper's TinyLlama",),
    ),
    "tinyllama-1.1b-instruct": HubModel(
        hub_id="TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        billions=1.1,
        licence="Apache 2.0",
        num_workers=1,
        zero_stage=1,
        unverified=("that its base is tinyllama-1.1b",),
    ),
    "deepseek-7b": HubModel(
        hub_id="deepseek-ai/deepseek-llm-7b-base",
        billions=7,
        licence=_DEEPSEEK,
        num_workers=4,
        zero_stage=3,
        unverified=("that it has safetensors weights",),
    ),
    "deepseek-7b-instruct": HubModel(
        hub_id="deepseek-ai/deepseek-llm-7b-chat",
        billions=7,
        licence=_DEEPSEEK,
        num_workers=4,
        zero_stage=3,
        unverified=("that it has safetensors weights",),
    ),
    "llama-3.1-8b": HubModel(
        hub_id="meta-llama/Llama-3.1-8B",
        billions=8,
        licence=_META,
        num_workers=4,
        zero_stage=3,
        needs=_META_NEEDS,
    ),
    "llama-3.1-8b-instruct": HubModel(
        hub_id="meta-llama/Llama-3.1-8B-Instruct",
        billions=8,
        licence=_META,
        num_workers=4,
        zero_stage=3,
        needs=_META_NEEDS,
    ),
    "llama-3.1-70b": HubModel(
        hub_id="meta-llama/Llama-3.1-70B",
        billions=70,
        licence=_META,
        num_workers=8,
        zero_stage=3,
        needs=_META_NEEDS,
    ),
    "llama-3.1-70b-instruct": HubModel(
        hub_id="meta-llama/Llama-3.1-70B-Instruct",
        billions=70,
        licence=_META,
        num_workers=8,
        zero_stage=3,
        needs=_META_NEEDS,
    ),
    "qwen2.5-0.5b": HubModel(
        hub_id="Qwen/Qwen2.5-0.5B",
        billions=0.5,
        licence="Apache 2.0",
        num_workers=1,
        zero_stage=1,
    ),
    "qwen2.5-0.5b-instruct": HubModel(
        hub_id="Qwen/Qwen2.5-0.5B-Instruct",
        billions=0.5,
        licence="Apache 2.0",
        num_workers=1,
        zero_stage=1,
    ),
    "qwen2.5-1.5b": HubModel(
        hub_id="Qwen/Qwen2.5-1.5B",
        billions=1.5,
        licence="Apache 2.0",
        num_workers=1,
        zero_stage=1,
    ),
    "qwen2.5-1.5b-instruct": HubModel(
        hub_id="Qwen/Qwen2.5-1.5B-Instruct",
        billions=1.5,
        licence="Apache 2.0",
        num_workers=1,
        zero_stage=1,
    ),
    "smollm2-135m": HubModel(
        hub_id="HuggingFaceTB/SmolLM2-135M",
        billions=0.135,
        licence="Apache 2.0",
        num_workers=1,
        zero_stage=1,
    ),
    "smollm2-135m-instruct": HubModel(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        billions=0.135,
        licence="Apache 2.0",
        num_workers=1,
        zero_stage=1,
    ),
}

# Which instruct model belongs to which base, embedded ones included.
INSTRUCT_OF = {
    **{name: f"{name}-instruct" for name in MADE_MODELS if f"{name}-instruct" in MADE_MODELS},
    **{name: f"{name}-instruct" for name in HUB_MODELS if f"{name}-instruct" in HUB_MODELS},
}


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """A dataset on the hub and how its rows become documents.

    A row is a document, unless rows are `joined`: until a document has at least a span's characters, or, where
    `starts_at` is a regular expression, until a row that matches it begins the next document.
    """

    hub_id: str
    config: str = ""
    split: str = "train"
    column: str = "text"
    revision: str = "main"
    data_files: str = ""
    joined: bool = False
    starts_at: str = ""

    @property
    def lock_key(self) -> str:
        """The key of its commit in the lock file."""
        return f"datasets/{self.hub_id}@{self.revision}"

    def declared(self, commit: str, pool: int) -> dict[str, Any]:
        """What names the text that is read: the commit in the place of the revision, and how many rows are read."""
        settings = asdict(self)
        del settings["revision"]
        return {**settings, "commit": commit, "pool": pool}


@dataclass(frozen=True, kw_only=True)
class HubDatasetPreset:
    """A dataset on the hub, with the text settings that suit it."""

    about: str
    source: HubDataset
    licence: str
    span_characters: int = 1500
    held_out_share: float = 0.2
    unverified: tuple[str, ...] = ()


# The paper names its data by their authors alone (section 3).
HUB_DATASETS: dict[str, HubDatasetPreset] = {
    "fiction": HubDatasetPreset(
        about="the paper's Fiction-Stories (Forsythe)",
        source=HubDataset(
            hub_id="alasdairforsythe/text-english-code-fiction-nonfiction",
            data_files="fiction.txt",
            joined=True,
        ),
        licence="unknown",
        unverified=("that this set is the paper's", "the file's name"),
    ),
    "wikipedia": HubDatasetPreset(
        about="WikiText-103 (Merity et al.), one article per document",
        source=HubDataset(
            hub_id="Salesforce/wikitext",
            config="wikitext-103-raw-v1",
            joined=True,
            starts_at=" = [^=]+ = ",
        ),
        licence="CC BY-SA",
    ),
    "bbc-news": HubDatasetPreset(
        about="BBC News articles of January 2024 (Li et al.)",
        source=HubDataset(hub_id="RealTimeData/bbc_news_alltime", config="2024-01", column="content"),
        licence="unknown",
        unverified=("that this set is the paper's, and which months of it",),
    ),
}
