"""What a training goes on from: this rank's masters and moments by parameter and range, in any engine and any placement.

A state has what Adam moves and nothing else of the engine: compute weights are the masters rounded, in DeepSpeed's own
update as here. So it can be read by other numbers of workers and at other ZeRO stages than wrote it.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rayfit.errors import WeightsError
from rayfit.train.reset import base_optimizer, gather_small, master_tensors
from rayfit.train.together import from_all

MASTER = "master"
MOMENTS = ("exp_avg", "exp_avg_sq")
_GENERATORS = "generators"
_KEY = re.compile(r"(?P<what>\w+)\[(?P<begin>\d+):(?P<end>\d+)\] (?P<name>.+)")


@dataclass(frozen=True)
class _Piece:
    """A range [begin, end) of a flattened parameter that this rank moves: where it lies in a tensor of Adam's."""

    name: str
    parameter: Any
    begin: int
    end: int
    flat: torch.Tensor
    offset: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The piece's part of a tensor that is laid out as its masters are: a view."""
        return tensor.detach().view(-1).narrow(0, self.offset, self.end - self.begin)


def _pieces(engine: Any) -> Iterator[_Piece]:
    """What this rank moves of each trained parameter. At stage 0, where all move all of it, the whole."""
    stage, optimizer = engine.zero_optimization_stage(), engine.optimizer
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        if stage == 0:
            yield _Piece(name, parameter, 0, parameter.numel(), parameter, 0)
        elif stage == 3:
            group, offset, count = optimizer.grad_position[optimizer.get_param_id(parameter)]
            begin = dist.get_rank() * count
            end = min(begin + count, parameter.ds_numel)  # the last rank's part ends in padding
            flat = optimizer.fp32_partitioned_groups_flat[group]
            if end > begin:
                yield _Piece(name, parameter, begin, end, flat, offset)
        elif (mapping := parameter._hp_mapping) is not None:
            at, begin = mapping.hp_fragment_address, mapping.lp_fragment_address.start
            flat = optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
            yield _Piece(name, parameter, begin, begin + at.numel, flat, at.start)


def _own_share(engine: Any, piece: _Piece) -> _Piece:
    """What this rank writes of a piece: all of it, but at stage 0, where every rank has all, its share."""
    if engine.zero_optimization_stage() != 0:
        return piece
    count, world, rank = piece.end, dist.get_world_size(), dist.get_rank()
    begin, end = count * rank // world, count * (rank + 1) // world
    return _Piece(piece.name, piece.parameter, begin, end, piece.flat, begin)


@torch.no_grad()
def take_state(engine: Any) -> dict[str, torch.Tensor]:
    """Copies on the host of what this rank moves, by what it is, range and parameter; call it between two updates.

    fp32, flat. Beside them the random generators of the process, as bytes.
    """
    states = base_optimizer(engine).state
    taken: dict[str, torch.Tensor] = {}
    for whole in _pieces(engine):
        piece = _own_share(engine, whole)
        if piece.begin == piece.end:
            continue
        for what, tensor in ((MASTER, piece.flat), *((key, states[piece.flat][key]) for key in MOMENTS)):
            taken[f"{what}[{piece.begin}:{piece.end}] {piece.name}"] = piece.of(tensor).to("cpu", copy=True)
    return {**taken, **_generators()}


def write_state(taken: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write what `take_state` returned as safetensors. Raises OSError where there is no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(dict(taken), path)
    except Exception as error:
        # safetensors has an error of its own for what the system refuses, and says why in words alone.
        raise OSError(f"{path} cannot be written: {error}") from error


@torch.no_grad()
def load_state(engine: Any, files: list[Path], update: int) -> str:
    """Put the engine, which was reset, where the files' state was: after `update` updates. All ranks call it alike.

    `files`: of all ranks that wrote the state, in their order. Each rank reads only the ranges that it moves. Returns on
    all ranks what is wrong, if a rank cannot read what it needs: the engine must then be reset again. Empty if all is well.
    """
    fault = next(filter(None, from_all(_read(engine, files, update))), "")
    if fault:
        return fault
    _round_masters(engine)
    engine.global_steps = update
    engine.global_samples = update * engine.train_batch_size()
    engine.micro_steps = update * engine.gradient_accumulation_steps()
    return ""


def _read(engine: Any, files: list[Path], update: int) -> str:
    try:
        with ExitStack() as stack:
            sources = _Sources([stack.enter_context(safe_open(file, "pt")) for file in files])
            _make_moments(engine, update)
            states = base_optimizer(engine).state
            for piece in _pieces(engine):
                for what, tensor in (
                    (MASTER, piece.flat),
                    *((key, states[piece.flat][key]) for key in MOMENTS),
                ):
                    sources.copy(what, piece.name, piece.begin, piece.of(tensor))
            if len(files) == dist.get_world_size():
                sources.restore_generators(dist.get_rank())
    except (OSError, SafetensorError, WeightsError, KeyError) as error:
        return f"{files[0].parent} cannot be read: {error}"
    return ""


def _make_moments(engine: Any, update: int) -> None:
    """Give each tensor of Adam's its moments, as its first step would, and the number of its steps."""
    optimizer = base_optimizer(engine)
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for master in master_tensors(engine):
        state = optimizer.state[master]
        for key in MOMENTS:
            if key not in state:
                state[key] = torch.zeros_like(master, memory_format=torch.preserve_format)
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=master.device if fused else "cpu")
        state["step"].fill_(float(update))


def _round_masters(engine: Any) -> None:
    """Make the compute weights what an update leaves them: the masters, rounded, on every rank."""
    stage, optimizer = engine.zero_optimization_stage(), engine.optimizer
    if stage in (1, 2):
        optimizer.update_lp_params()
        for group in range(len(optimizer.bit16_groups)):
            optimizer._update_model_bit16_weights(group)
    elif stage == 3:
        for piece in _pieces(engine):
            shard = piece.parameter.ds_tensor.view(-1)
            shard.narrow(0, 0, piece.end - piece.begin).copy_(piece.of(piece.flat))
        if (
            persistent := optimizer.persistent_parameters
        ):  # kept whole on every rank: given back, unsaved, and gathered anew
            persistent[0].partition(persistent, has_been_updated=False)
            gather_small(engine)


class _Sources:
    """The ranges that the files of a state hold."""

    def __init__(self, files: list[Any]) -> None:
        self._files = files
        self._ranges = defaultdict[tuple[str, str], list[tuple[int, int, Any, str]]](list)
        for file in files:
            for key in file.keys():  # noqa: SIM118 - no mapping
                if found := _KEY.fullmatch(key):
                    place = (int(found["begin"]), int(found["end"]), file, key)
                    self._ranges[found["what"], found["name"]].append(place)

    def copy(self, what: str, name: str, begin: int, target: torch.Tensor) -> None:
        """Fill `target`, which begins at `begin` of the flattened parameter, reading no more than that."""
        end, filled = begin + target.numel(), 0
        for first, last, file, key in self._ranges[what, name]:
            low, high = max(begin, first), min(end, last)
            if low < high:
                part = file.get_slice(key)[low - first : high - first]
                target.narrow(0, low - begin, high - low).copy_(part)
                filled += high - low
        if filled != target.numel():
            raise WeightsError(
                f"the state has {filled} of the {target.numel()} values of {what} of {name} from {begin} on"
            )

    def restore_generators(self, rank: int) -> None:
        """Put this process's random generators where those of the same rank were."""
        file = self._files[rank]
        _set_generators({key: file.get_tensor(key) for key in file.keys() if key.startswith(_GENERATORS)})  # noqa: SIM118


def _generators() -> dict[str, torch.Tensor]:
    """The state of the random generators of torch, NumPy and Python, as tensors of whole numbers."""
    algorithm, words, position, has_gauss, gauss = np.random.get_state(legacy=True)
    assert algorithm == "MT19937"
    version, python_words, python_gauss = random.getstate()
    found = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(words).astype(np.int64)),
        "numpy_position": torch.tensor([position, has_gauss]),
        "numpy_gauss": torch.tensor([gauss], dtype=torch.float64),
        "python": torch.tensor([version, *python_words]),
    }
    if python_gauss is not None:
        found["python_gauss"] = torch.tensor([python_gauss], dtype=torch.float64)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state()
    return {f"{_GENERATORS} {name}": tensor for name, tensor in found.items()}


def _set_generators(tensors: Mapping[str, torch.Tensor]) -> None:
    found = {key.removeprefix(f"{_GENERATORS} "): tensor for key, tensor in tensors.items()}
    torch.set_rng_state(found["torch"])
    position, has_gauss = found["numpy_position"].tolist()
    words = found["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", words, position, has_gauss, float(found["numpy_gauss"])))
    version, *python_words = found["python"].tolist()
    gauss = found.get("python_gauss")
    random.setstate((version, tuple(python_words), None if gauss is None else float(gauss)))
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])
