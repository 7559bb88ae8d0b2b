"""Named models and datasets of the Hugging Face hub.

Ids, files, licences and sizes are what the hub's public pages showed in 2023 to 2025 and what public copies of its files
hold; nothing was loaded from the hub itself. `unverified` names what those leave open. Ids, access, files and tokenizers
are looked at again when a sweep is prepared, before anything is trained.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rayfit.presets import MADE_MODELS
from rayfit.shape import Shape


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model on the hub, at `revision`, and the sizes that public copies of its config.json hold.

    On GPUs it computes in bf16 with fp32 master weights, as every model does.
    """

    hub_id: str
    shape: Shape
    licence: str
    revision: str = "main"
    needs: str = ""
    unverified: tuple[str, ...] = ()


_TINYLLAMA = Shape(
    hidden_size=2048,
    intermediate_size=5632,
    num_layers=22,
    num_heads=32,
    num_kv_heads=4,
    head_size=64,
    vocabulary_size=32_000,
)
_DEEPSEEK_7B = Shape(
    hidden_size=4096,
    intermediate_size=11_008,
    num_layers=30,
    num_heads=32,
    num_kv_heads=32,
    head_size=128,
    vocabulary_size=102_400,
)
_LLAMA_8B = Shape(
    hidden_size=4096,
    intermediate_size=14_336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_size=128,
    vocabulary_size=128_256,
)
_LLAMA_70B = Shape(
    hidden_size=8192,
    intermediate_size=28_672,
    num_layers=80,
    num_heads=64,
    num_kv_heads=8,
    head_size=128,
    vocabulary_size=128_256,
)
_QWEN_05B = Shape(
    hidden_size=896,
    intermediate_size=4864,
    num_layers=24,
    num_heads=14,
    num_kv_heads=2,
    head_size=64,
    vocabulary_size=151_936,
    is_tied=True,
    has_biases=True,
)
_QWEN_15B = Shape(
    hidden_size=1536,
    intermediate_size=8960,
    num_layers=28,
    num_heads=12,
    num_kv_heads=2,
    head_size=128,
    vocabulary_size=151_936,
    is_tied=True,
    has_biases=True,
)
_SMOLLM_135M = Shape(
    hidden_size=576,
    intermediate_size=1536,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_size=64,
    vocabulary_size=49_152,
    is_tied=True,
)

_META = "Llama 3.1 Community License"
_META_NEEDS = "access asked for on its hub page and `hf auth login`"
_DEEPSEEK = "DeepSeek (its own)"

HUB_MODELS: dict[str, HubModel] = {
    # The paper names no version. This one is what Chat-v1.0 was "finetuned on top of" (its hub page, commit 44ea18ec), so
    # that base and instruct belong together, and has safetensors (hub page, #4), which TinyLlama_v1.1 has not (commit
    # 77b87b3e: pytorch_model.bin alone).
    "tinyllama-1.1b": HubModel(
        hub_id="TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
        shape=_TINYLLAMA,
        licence="Apache 2.0",
        unverified=("that it is the paper's TinyLlama",),
    ),
    "tinyllama-1.1b-instruct": HubModel(
        hub_id="TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        shape=_TINYLLAMA,
        licence="Apache 2.0",
    ),
    # main has two .bin shards alone (hub page). The commit is the hub's own conversion of them, refs/pr/3 of 2024-04-09,
    # whose parent is main's head (its commit page).
    "deepseek-7b": HubModel(
        hub_id="deepseek-ai/deepseek-llm-7b-base",
        shape=_DEEPSEEK_7B,
        licence=_DEEPSEEK,
        revision="dbd6f0e98a1f2c9978e2d0c6370cdfc563218527",
    ),
    # Two .bin shards, 9.97 and 3.85 GB (hub page at 5d1e3336); no conversion of them was found.
    "deepseek-7b-instruct": HubModel(
        hub_id="deepseek-ai/deepseek-llm-7b-chat",
        shape=_DEEPSEEK_7B,
        licence=_DEEPSEEK,
        needs="14 GB more of storage: its pickled weights are converted once",
    ),
    "llama-3.1-8b": HubModel(
        hub_id="meta-llama/Llama-3.1-8B",
        shape=_LLAMA_8B,
        licence=_META,
        needs=_META_NEEDS,
    ),
    "llama-3.1-8b-instruct": HubModel(
        hub_id="meta-llama/Llama-3.1-8B-Instruct",
        shape=_LLAMA_8B,
        licence=_META,
        needs=_META_NEEDS,
    ),
    "llama-3.1-70b": HubModel(
        hub_id="meta-llama/Llama-3.1-70B",
        shape=_LLAMA_70B,
        licence=_META,
        needs=_META_NEEDS,
    ),
    "llama-3.1-70b-instruct": HubModel(
        hub_id="meta-llama/Llama-3.1-70B-Instruct",
        shape=_LLAMA_70B,
        licence=_META,
        needs=_META_NEEDS,
    ),
    "qwen2.5-0.5b": HubModel(
        hub_id="Qwen/Qwen2.5-0.5B",
        shape=_QWEN_05B,
        licence="Apache 2.0",
    ),
    "qwen2.5-0.5b-instruct": HubModel(
        hub_id="Qwen/Qwen2.5-0.5B-Instruct",
        shape=_QWEN_05B,
        licence="Apache 2.0",
    ),
    "qwen2.5-1.5b": HubModel(
        hub_id="Qwen/Qwen2.5-1.5B",
        shape=_QWEN_15B,
        licence="Apache 2.0",
    ),
    "qwen2.5-1.5b-instruct": HubModel(
        hub_id="Qwen/Qwen2.5-1.5B-Instruct",
        shape=_QWEN_15B,
        licence="Apache 2.0",
    ),
    "smollm2-135m": HubModel(
        hub_id="HuggingFaceTB/SmolLM2-135M",
        shape=_SMOLLM_135M,
        licence="Apache 2.0",
    ),
    "smollm2-135m-instruct": HubModel(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        shape=_SMOLLM_135M,
        licence="Apache 2.0",
    ),
}

# Which instruct model belongs to which base, embedded ones included.
INSTRUCT_OF = {
    **{name: f"{name}-instruct" for name in MADE_MODELS if f"{name}-instruct" in MADE_MODELS},
    **{name: f"{name}-instruct" for name in HUB_MODELS if f"{name}-instruct" in HUB_MODELS},
}


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """A dataset on the hub and how its rows become documents. Of several configs, joined by `+`, one follows the other.

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
    def configs(self) -> tuple[str, ...]:
        """The configs that are read one after another; the empty one is the dataset's own default."""
        return tuple(self.config.split("+"))

    @property
    def lock_key(self) -> str:
        """The key of its commit in the lock file."""
        return f"datasets/{self.hub_id}@{self.revision}"

    def declared(self, commit: str, pool: int) -> dict[str, Any]:
        """Return what names the text that is read: the commit in the place of the revision, and how many rows are read."""
        settings = asdict(self)
        del settings["revision"]
        return {**settings, "commit": commit, "pool": pool}


@dataclass(frozen=True, kw_only=True)
class HubDatasetPreset:
    """A dataset on the hub, with the text settings that suit it."""

    about: str
    source: HubDataset
    licence: str
    span_characters: int = 1800
    held_out_share: float = 0.2
    unverified: tuple[str, ...] = ()


# The paper names its data by their authors alone (section 3). Spans are longer than those of local files, since
# vocabularies of 128,000 entries and more take about five characters a token and a poor span would stop a sweep.
HUB_DATASETS: dict[str, HubDatasetPreset] = {
    # fiction.txt, 357 MB, stands on the hub's page of files.
    "fiction": HubDatasetPreset(
        about="the paper's Fiction-Stories (Forsythe)",
        source=HubDataset(
            hub_id="alasdairforsythe/text-english-code-fiction-nonfiction",
            data_files="fiction.txt",
            joined=True,
        ),
        licence="none stated",
        unverified=("that this set is the paper's",),
    ),
    "wikipedia": HubDatasetPreset(
        about="WikiText-103 (Merity et al.), one article per document",
        source=HubDataset(
            hub_id="Salesforce/wikitext",
            config="wikitext-103-raw-v1",
            joined=True,
            starts_at=" = [^=]+ = ",
        ),
        licence="CC BY-SA 3.0 and GFDL",
    ),
    # Months and their numbers of rows (721, 807, 1,138, 1,460) stand in the dataset's README, the last one's (1,562) in a
    # public copy's statistics. An example context of the paper (appendix C.1) tells news of 9 to 10 December 2018, so its
    # text is not of one month of 2024.
    "bbc-news": HubDatasetPreset(
        about="BBC News articles of five months from 2017 to 2024 (Li et al.), 5,688 in all",
        source=HubDataset(
            hub_id="RealTimeData/bbc_news_alltime",
            config="2017-03+2017-04+2018-12+2023-12+2024-01",
            column="content",
        ),
        licence="none stated",
        unverified=("that this set is the paper's, and which months of it",),
    ),
}
