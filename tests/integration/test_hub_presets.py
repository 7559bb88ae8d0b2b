"""Every model preset through a hub on this machine, in the form in which the hub is known to hold it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rayfit.hub_presets import HUB_DATASETS, HUB_MODELS
from tests.hub_server import HubServer, Repo, serving
from tests.launching import ROOT
from tests.tiny_hub import FORMS, TEXTS, save_form

pytestmark = pytest.mark.integration

CHECK = """
import sys
from rayfit.hub_presets import HUB_DATASETS, HUB_MODELS
from rayfit.plan.sources import resolve_model
from rayfit.records.storage import Storage
from rayfit.prepare.given_models import check_models

storage = Storage(sys.argv[1])
check_models([resolve_model(name, None, storage) for name in HUB_MODELS], storage)
"""

FETCH = """
import json, sys
from rayfit.generate.loading import load_model
from rayfit.hub_presets import HUB_DATASETS, HUB_MODELS
from rayfit.plan.sources import resolve_model
from rayfit.records.storage import Storage
from rayfit.prepare.given_models import hub_model
from rayfit.prepare.tokenizer import load_tokenizer
from rayfit.console import Console
from rayfit.train.directory import weights_digest
from transformers import AutoTokenizer

storage, text = Storage(sys.argv[1]), sys.argv[2]
found = {}
for name in HUB_MODELS:
    path, commit = hub_model(resolve_model(name, None, storage), storage, Console(sys.stderr))
    tokenize, bos_id = load_tokenizer(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    weights = load_model(path, precision="fp32", device="cpu").state_dict()
    found[name] = {
        "path": str(path), "commit": commit, "bos": None if bos_id is None else tokenizer.decode([bos_id]),
        "back": tokenizer.decode(tokenize(text)), "digest": weights_digest(weights),
    }
print(json.dumps(found))
"""


def _run(code: str, folder: Path, server: HubServer, *arguments: str, token: str = "someone") -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment |= {"HF_ENDPOINT": server.url, **({"HF_TOKEN": token} if token else {})}
    return subprocess.run(
        [sys.executable, "-c", code, str(folder / "runs"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], list[Repo]]:
    """The tensors of every preset's stand-in, and the repositories that hold them."""
    assert FORMS.keys() == HUB_MODELS.keys()
    root = tmp_path_factory.mktemp("hub")
    tensors, repos = {}, []
    for number, (name, preset) in enumerate(HUB_MODELS.items()):
        tensors[name] = save_form(root / name, FORMS[name], seed=number)
        is_commit = len(preset.revision) == 40
        commit = preset.revision if is_commit else f"{number:040x}"
        repos.append(
            Repo(
                hub_id=preset.hub_id,
                commit=commit,
                folder=root / name,
                gated=preset.hub_id.startswith("meta-llama/"),
                # a conversion that waits on the community page: main has another commit
                revisions=() if is_commit else ("main",),
            )
        )
    return tensors, repos


def test_every_preset_loads_as_the_hub_holds_it(weights: Any, tmp_path: Path) -> None:
    import torch

    from rayfit.train.directory import weights_digest

    tensors, repos = weights
    with serving(HubServer(*repos)) as server:
        checked = _run(CHECK, tmp_path, server)
        assert checked.returncode == 0, checked.stderr
        fetched_early = [name for name in server.sent if name.endswith((".safetensors", ".bin"))]
        assert not fetched_early
        done = _run(FETCH, tmp_path, server, TEXTS[0])
        sent = dict(server.sent)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == HUB_MODELS.keys()
    for name, preset in HUB_MODELS.items():
        about, form = found[name], FORMS[name]
        assert about["back"] == TEXTS[0], name
        assert about["bos"] == form.bos, name
        assert about["digest"] == weights_digest(
            {k: v.to(torch.float32) for k, v in tensors[name].items()}
        ), name
        if len(preset.revision) == 40:
            assert about["commit"] == preset.revision
        mine = {
            file.removeprefix(f"{preset.hub_id}/") for file in sent if file.startswith(f"{preset.hub_id}/")
        }
        assert not mine & {*form.others, *(("pytorch_model.bin",) if form.weights != "bin shards" else ())}, (
            name
        )
    converted = Path(found["deepseek-7b-instruct"]["path"])
    record = json.loads((converted / "record.json").read_text())
    assert converted.parent == tmp_path / "runs" / "models" and record["kind"] == "converted model"
    assert len(record["converted_from"]) == len(record["converted_to"]) == 2
    assert {file.name for file in converted.glob("*.safetensors")} == set(record["converted_to"])


def test_who_has_no_access_is_told_before_anything_is_fetched(weights: Any, tmp_path: Path) -> None:
    with serving(HubServer(*weights[1])) as server:
        done = _run(CHECK, tmp_path, server, token="")
        assert server.sent_bytes == 0
    last = done.stderr.strip().splitlines()[-1]
    assert (
        "meta-llama/Llama-3.1-8B is gated; ask for access on https://huggingface.co/meta-llama/Llama-3.1-8B"
        in last
    )


READ = """
import json, sys
from dataclasses import replace
from rayfit.hub_presets import HUB_DATASETS
from rayfit.plan.sources import ModelSource, resolve_text
from rayfit.records.storage import Storage
from rayfit.prepare.corpora import identify_text, read_spans

storage, model = Storage(sys.argv[1]), ModelSource(name="x", kind="local", declared=None)
found = {}
for name, preset in HUB_DATASETS.items():
    identify_text(resolve_text(name, "text", 200, model, storage), storage)
    text = resolve_text(name, "text", 200, model, storage)
    spans, facts = read_spans(text, storage, span_characters=60, held_out_share=0.2)
    found[name] = {"facts": facts, "spans": spans.select("document", "text").rows()}
print(json.dumps(found))
"""


def _sentence(text: str, row: int) -> str:
    return f"{text}, row {row}: " + " ".join(f"word{row}x{place}" for place in range(12)) + "."


@pytest.fixture
def datasets(tmp_path: Path) -> list[Repo]:
    """The datasets of the presets as the hub's pages show them: files, configs and columns."""
    import polars as pl

    root = tmp_path / "datasets"
    fiction = root / "fiction"
    fiction.mkdir(parents=True)
    for name in ("arxiv_sample", "code_2mb", "fiction", "fiction_100mb", "reddit"):
        (fiction / f"{name}.txt").write_text("".join(f"{_sentence(name, row)}\n\n" for row in range(40)))
    (fiction / "README.md").write_text("# Text, code, fiction\n")

    wikitext = root / "wikitext" / "wikitext-103-raw-v1"
    wikitext.mkdir(parents=True)
    rows = []
    for article in range(6):
        rows += ["", f" = Article {article} = \n", "", f" {_sentence('intro', article)} \n"]
        rows += [" = = Section = = \n", f" {_sentence('section', article)} \n"]
    files = {
        "train-00000-of-00002": rows[:18],
        "train-00001-of-00002": rows[18:],
        "test-00000-of-00001": rows,
    }
    for file, part in files.items():
        pl.DataFrame({"text": part}).write_parquet(wikitext / f"{file}.parquet")
    readme = _readme({wikitext.name: f"{wikitext.name}/{{split}}-*"}, ("train", "test"))
    (wikitext.parent / "README.md").write_text(readme)

    bbc, months = (
        root / "bbc",
        [f"{year}-{month:02d}" for year in range(2017, 2025) for month in range(1, 13)],
    )
    for month in months:
        (bbc / month).mkdir(parents=True)
        frame = {name: [f"{name} {month}"] * 3 for name in ("title", "published_date", "description", "link")}
        frame["content"] = [_sentence(month, row) for row in range(3)]
        pl.DataFrame(frame).write_parquet(bbc / month / "train-00000-of-00001.parquet")
    (bbc / "README.md").write_text(_readme({month: f"{month}/train-*" for month in months}, ("train",)))
    folders = {"fiction": fiction, "wikipedia": root / "wikitext", "bbc-news": bbc}
    return [
        Repo(hub_id=HUB_DATASETS[name].source.hub_id, commit=f"{number:040x}", folder=folder, kind="dataset")
        for number, (name, folder) in enumerate(folders.items())
    ]


def _readme(configs: dict[str, str], splits: tuple[str, ...]) -> str:
    lines = ["---", "configs:"]
    for name, pattern in configs.items():
        lines += [f"- config_name: '{name}'", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {pattern.format(split=split)}"]
    return "\n".join([*lines, "---", ""])


def test_every_dataset_preset_is_read_as_the_hub_holds_it(datasets: list[Repo], tmp_path: Path) -> None:
    with serving(HubServer(*datasets)) as server:
        done = _run(READ, tmp_path, server)
        sent = dict(server.sent)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    texts = {name: " ".join(text for _, text in found[name]["spans"]) for name in found}
    assert "fiction, row 0" in texts["fiction"] and "reddit" not in texts["fiction"]
    assert "fiction_100mb" not in texts["fiction"] and "arxiv" not in texts["fiction"]
    assert found["wikipedia"]["facts"]["documents"] == 6, "one per article, sections within"
    assert "intro, row 5" in texts["wikipedia"]
    months = HUB_DATASETS["bbc-news"].source.configs
    assert "2018-12" in months and found["bbc-news"]["facts"]["documents"] == 3 * len(months)
    # a month's documents are named by it, so that they are held out or not whichever months are read beside it
    assert {document.split("/")[0] for document, _ in found["bbc-news"]["spans"]} == set(months)
    assert all(f"{month}, row 0" in texts["bbc-news"] for month in months)
    fetched = {file.split("/")[-2] for file in sent if "bbc" in file and file.endswith(".parquet")}
    assert fetched == set(months)
