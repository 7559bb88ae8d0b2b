"""The logits of each step on their way to a token: check, suppress, penalties, blocker, draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from transformers import LogitsProcessor

from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from rayfit.generate.banning import ban_greedily
from rayfit.generate.blocker import Blocker
from rayfit.generate.contexts import shortened
from rayfit.generate.device_sampling import draw_on_device
from rayfit.generate.sampling import draw, uniforms

Pairs = tuple[np.ndarray, np.ndarray]


class Chooser(LogitsProcessor):
    """One batch's logits, step by step, under one decoding; it must be called once per step, from the first
    on.

    For a sampling kind it leaves one finite logit per row, the token drawn; for greedy, `generate` takes the
    highest, the lowest id among equals. Order: special ids suppressed, repetition penalty, no-repeat-n-gram,
    blocker, then temperature, top-k, top-p or min-p.

    steps_banned, steps_changed: bool [rows, num_new_tokens], filled as steps pass where a blocker is given:
    whether a ban was in force, and whether it changed the choice (for sampling: that of the same random
    number).
    """

    supports_continuous_batching = False

    def __init__(
        self,
        decoding: Decoding,
        names: Sequence[str],
        first: np.ndarray,
        prompt_length: int,
        suppress_ids: Sequence[int],
        blocker: Blocker | None,
        on_host: bool | None = None,
    ) -> None:
        """names: the rows' context ids. first: int64 [rows], the column where each row's padding ends.
        on_host: whether logits are in main memory, where compiled code takes them as they are; by default as
        the first ones are.
        """
        self.decoding, self.names, self.first, self.prompt_length = decoding, names, first, prompt_length
        self.blocker, self.on_host = blocker, on_host
        self.suppressed = torch.tensor([] if decoding.stop_at_end else list(suppress_ids), dtype=torch.int64)
        shape = (len(names), decoding.num_new_tokens)
        self.steps_banned = np.zeros(shape, dtype=np.bool_)
        self.steps_changed = np.zeros(shape, dtype=np.bool_)
        # what other bans than the blocker's write to
        self.steps_unmarked = (np.zeros_like(self.steps_banned), np.zeros_like(self.steps_changed))
        self.numbers = np.empty((0, 0))
        if decoding.samples:
            self.numbers = np.stack([uniforms(decoding.seed, name, shape[1]) for name in names])
        self.device_numbers = torch.from_numpy(self.numbers)
        counted = blocker is not None and blocker.block.source == "generated"
        self.block_first = np.full(len(names), prompt_length, dtype=np.int64) if counted else first
        self.step = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The logits [rows, vocabulary], float32 and ours to change, after `input_ids` [rows, tokens]."""
        step, self.step = self.step, self.step + 1
        self._refuse_broken(scores, step)
        if step == 0:
            self._settle(scores)
        if self.suppressed.numel():
            scores.index_fill_(1, self.suppressed, -torch.inf)
        if self.decoding.repetition_penalty != 1.0:
            self._penalise(input_ids, scores)
        if self.decoding.no_repeat_ngram:
            texts = np.ascontiguousarray(input_ids.cpu().numpy())
            repeats = _repeated_next(texts, self.first, self.decoding.no_repeat_ngram)
            self._ban(scores, repeats, step, count=False)
        if self.blocker is not None:
            self._block(input_ids, scores, step)
        if not self.decoding.samples:
            return scores
        chosen = self._draw(scores, step)
        out = torch.full_like(scores, -torch.inf)
        return out.scatter_(1, chosen[:, None], 0.0)

    def _settle(self, scores: torch.Tensor) -> None:
        """What the first logits decide; whatever else is needed where they are goes there once."""
        if self.on_host is None:
            self.on_host = scores.device.type == "cpu"
        # A tokenizer may have special ids for which the model, whose embedding was not widened, has no logit.
        self.suppressed = self.suppressed[self.suppressed < scores.shape[1]].to(scores.device)
        self.device_numbers = self.device_numbers.to(scores.device)

    def _refuse_broken(self, scores: torch.Tensor, step: int) -> None:
        # one sum is many times cheaper than a test of every logit, and neither NaN nor infinity can hide in it
        if torch.isfinite(scores.sum()):
            return
        for what, broken in (("NaN", torch.isnan(scores)), ("infinite", scores == torch.inf)):
            rows = broken.any(dim=1).nonzero()[:, 0].tolist()
            if rows:
                raise RayfitError(
                    f"generate: the model's logits are {what} at new token {step + 1} of context "
                    f"{shortened(self.names[rows[0]])!r} ({len(rows)} of the {len(self.names)} contexts of its "
                    "batch); its weights are broken or its training diverged"
                )

    def _penalise(self, input_ids: torch.Tensor, scores: torch.Tensor) -> None:
        # padding stands for no token: let it repeat the row's last one, which is penalised once all the same
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)
        is_text = columns >= torch.as_tensor(self.first, device=input_ids.device)[:, None]
        seen = torch.where(is_text, input_ids, input_ids[:, -1:])
        score = scores.gather(1, seen)
        penalty = self.decoding.repetition_penalty
        scores.scatter_(1, seen, torch.where(score < 0, score * penalty, score / penalty))

    def _ban(self, scores: torch.Tensor, pairs: Pairs, step: int, count: bool) -> None:
        """Take the pairs (row, id) out; a row left with nothing gets its best id that is not banned.

        The pairs are ordered by row. Works on the rows concerned in main memory, which on a CPU are `scores`
        itself; greedy rows are done there in compiled code, all but those left with nothing.
        """
        rows, ids = pairs
        if not rows.size:
            return
        if self.on_host and not self.decoding.samples:
            marked = (self.steps_banned, self.steps_changed) if count else self.steps_unmarked
            lost = ban_greedily(scores.numpy(), rows, ids, step, *marked)
            if not lost.size:
                return
            left = np.isin(rows, lost)
            rows, ids = rows[left], ids[left]
        hit = rows[np.flatnonzero(np.diff(rows, prepend=-1))]
        local = np.searchsorted(hit, rows)
        values = self._rows(scores, hit)
        free = self._choice(values, hit, step)
        values[local, ids] = -np.inf
        lost = np.isneginf(values[np.arange(hit.size), free])
        for place in np.flatnonzero(lost):
            if values[place].max() == -np.inf:
                original = self._rows(scores, hit[place : place + 1])[0]
                values[place] = self._last_resort(original, ids[local == place])
        self._put_rows(scores, hit, values)
        if count:
            self.steps_banned[hit, step] = True
            # Both draws are the host's, also where the token is drawn on a device, whose rounding is another.
            held = self._choice(values, hit, step) if self.decoding.samples else values.argmax(axis=1)
            self.steps_changed[hit, step] = free != held

    def _last_resort(self, row: np.ndarray, banned: np.ndarray) -> np.ndarray:
        """All finite logits are banned: the first id neither banned nor special, else the ban is lifted."""
        out = np.zeros_like(row)
        out[self.suppressed.cpu().numpy()] = -np.inf
        out[banned] = -np.inf
        return row if out.max() == -np.inf else out

    def _block(self, input_ids: torch.Tensor, scores: torch.Tensor, step: int) -> None:
        assert self.blocker is not None
        first = self.block_first
        if not self.on_host:
            # only what decides leaves the device
            reach = min(self.blocker.reach or input_ids.shape[1], input_ids.shape[1])
            first = np.maximum(first - (input_ids.shape[1] - reach), 0)
            input_ids = input_ids[:, -reach:].cpu().contiguous()
        self._ban(scores, self.blocker.bans(input_ids.numpy(), first), step, count=True)

    def _choice(self, scores: np.ndarray, rows: np.ndarray, step: int) -> np.ndarray:
        if self.decoding.samples:
            return draw(scores, self.numbers[rows, step], self.decoding)
        return scores.argmax(axis=1)

    def _draw(self, scores: torch.Tensor, step: int) -> torch.Tensor:
        if self.on_host:
            return torch.from_numpy(draw(scores.numpy(), self.numbers[:, step], self.decoding))
        return draw_on_device(scores, self.device_numbers[:, step], self.decoding)

    def _rows(self, scores: torch.Tensor, rows: np.ndarray) -> np.ndarray:
        """A copy of some rows in main memory, float32; on a CPU several times faster by numpy than by torch."""
        if self.on_host:
            return scores.numpy()[rows]
        return scores[torch.from_numpy(rows).to(scores.device)].cpu().numpy()

    def _put_rows(self, scores: torch.Tensor, rows: np.ndarray, values: np.ndarray) -> None:
        if self.on_host:
            scores.numpy()[rows] = values
        else:
            scores[torch.from_numpy(rows).to(scores.device)] = torch.from_numpy(values).to(scores.device)


@njit(cache=True, nogil=True)
def _repeated_next(texts: np.ndarray, first: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row, token) that would repeat an n-gram of `size` tokens of the row from column `first` on."""
    rows, length = texts.shape
    out_rows = np.empty(rows * length, dtype=np.int64)
    out_ids = np.empty(rows * length, dtype=np.int64)
    count = 0
    for row in range(rows):
        for begin in range(first[row], length - size + 1):
            same = True
            for offset in range(size - 1):
                if texts[row, begin + offset] != texts[row, length - size + 1 + offset]:
                    same = False
                    break
            if same:
                out_rows[count], out_ids[count] = row, texts[row, begin + size - 1]
                count += 1
    return out_rows[:count], out_ids[:count]
