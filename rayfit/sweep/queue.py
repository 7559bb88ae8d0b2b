"""Which worker group trains which trial next: the state that Tune's trials, worker groups and the driver share.

A plain class; the driver runs one of it as a Ray actor, whose methods then run one at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rayfit.records.trial import Point

MAX_TRIES = 3
MAX_STARTS_WITHOUT_WORK = 3

Status = Literal["expected", "queued", "running", "elsewhere", "finished", "failed"]
Order = tuple[Literal["train", "wait", "close"], Any]


@dataclass(frozen=True)
class TrialState:
    """Where a trial of the queue stands. `last_point` is of the try that runs; `seconds`: of a finished trial, in all.

    `kept_update`: after which its newest state is, None without one. `trouble`: why a state could not be kept the last time.
    """

    status: Status
    tries: int
    last_point: Point | None
    seconds: float | None
    error: str
    kept_update: int | None = None
    trouble: str = ""


@dataclass
class _Trial:
    task: Any
    kind: str = ""
    status: Status = "expected"
    group: str = ""
    tries: int = 0
    deaths: int = 0
    kept_update: int | None = None
    trouble: str = ""
    points: list[Point] = field(default_factory=list)
    seconds: float | None = None
    error: str = ""


@dataclass
class _Group:
    kind: str = ""
    in_hand: str = ""
    served: int = 0
    starts: int = 0
    starts_without_work: int = 0
    closing: bool = False
    noticed: bool = False
    last_words: str = ""
    nodes: tuple[str, ...] = ()
    placements: list[str] = field(default_factory=list)


class TrialQueue:
    """Trials are expected (the plan has them), queued (Tune submitted them), running, and finished or failed.

    One that another launch trains is elsewhere until its record is there, or it is nobody's and queued again.

    A trial is of a kind (its model, batch and adapter, say), and a group trains trials of one kind.
    """

    def __init__(
        self, tasks: Mapping[str, Any], *, kinds: Mapping[str, str] | None = None, trials_per_group: int = 0
    ) -> None:
        """`tasks`: what a group needs, by trial id; `kinds`: of which kind each is (default: all of one).

        Tune must submit the trials in this order, and those of a kind must stand together. `trials_per_group` 0 means
        no limit.
        """
        kinds = kinds or {}
        self._trials = {trial_id: _Trial(task, kinds.get(trial_id, "")) for trial_id, task in tasks.items()}
        self._groups: dict[str, _Group] = {}
        self._told: dict[str, TrialState] = {}
        self._limit = self._may_train = 1
        self._is_ending = False
        self._trials_per_group = trials_per_group

    # Tune's side

    def submit(self, trial_id: str) -> None:
        """Tune's trial is here. Submitting again, as a restarted Tune actor does, changes nothing."""
        trial = self._trials[trial_id]
        if trial.status == "expected":
            trial.status = "queued"

    def events(self, trial_id: str, seen: int) -> tuple[list[Point], Status, str]:
        """Points from number `seen` on, the status, and the error of a failed trial."""
        trial = self._trials[trial_id]
        return trial.points[seen:], trial.status, trial.error

    # a worker group's side

    def hello(self, group_id: str, nodes: tuple[str, ...] = (), dead_nodes: Collection[str] = ()) -> bool:
        """A group's workers have started, for the first time or again after they died. False: give up and close.

        A trial that was in hand when the workers died is queued again, or failed when they died MAX_TRIES times without
        a newer state of it; not counted are deaths with their node (`nodes`: of the workers; `dead_nodes`: of the whole
        cluster). A group that keeps dying before it asks for work fails everything of its kind that is left, for no other
        group would fare better.
        """
        group = self._groups.setdefault(group_id, _Group())
        said, group.last_words = _said(group.last_words), ""
        lost_node = not set(group.nodes).isdisjoint(dead_nodes)
        group.nodes, group.noticed = nodes, False
        group.starts += 1
        group.starts_without_work += 0 if lost_node else 1
        if group.in_hand:
            trial = self._trials[group.in_hand]
            group.in_hand = ""
            self._died(trial, lost_node, said=said)
        if group.closing:
            return False
        if group.starts_without_work > MAX_STARTS_WITHOUT_WORK:
            died = f"the workers died {MAX_STARTS_WITHOUT_WORK} times before they could train"
            self.give_up(f"{died}{said} (see the group's log)", group.kind)
            return False
        return True

    def next(self, group_id: str) -> Order:
        """("train", task), ("wait", None), or ("close", None) when there is nothing left here for this group."""
        group = self._groups[group_id]
        group.starts_without_work = 0
        if self.is_noticed(group_id) or self._must_close(group):
            group.closing = True
            return "close", None
        if sum(bool(other.in_hand) for other in self._groups.values()) >= self._may_train:
            return "wait", None
        for trial_id, trial in self._trials.items():
            if trial.status == "queued" and trial.kind == group.kind:
                trial.status, trial.group = "running", group_id
                trial.tries += 1
                group.in_hand = trial_id
                group.served += 1
                return "train", trial.task
        return "wait", None

    def _must_close(self, group: _Group) -> bool:
        open_groups = sum(not other.closing for other in self._groups.values())
        own = {trial.status for trial in self._trials.values() if trial.kind == group.kind}
        return (
            0 < self._trials_per_group <= group.served
            or open_groups > self._limit
            or not own & {"expected", "queued"}
            or (open_groups >= self._limit and "queued" not in own and self._another_kind_is_stuck())
        )

    def _another_kind_is_stuck(self) -> bool:
        """Whether a trial is queued whose kind has no group: Tune may wait for it before it submits any other."""
        served = {group.kind for group in self._groups.values() if not group.closing}
        return any(trial.status == "queued" and trial.kind not in served for trial in self._trials.values())

    def holds(self, group_id: str, placement_id: str) -> None:
        """The group's workers are in this placement group of Ray's."""
        self._groups.setdefault(group_id, _Group()).placements.append(placement_id)

    def cannot_train(self, group_id: str, error: str) -> None:
        """Nothing of the group's kind can be trained: the trial in hand and all that wait fail with the reason at once.

        Its workers, when Train starts them again, are told so by `hello`; several of them may say the same.
        """
        group = self._groups[group_id]
        group.closing = True
        if group.in_hand:
            self._end(self._trials[group.in_hand], error=error)
            group.in_hand = ""
        self.give_up(error, group.kind)

    def dies(self, group_id: str, error: str) -> None:
        """A worker of the group ends with this error. The first one counts: the others end for want of it."""
        group = self._groups.setdefault(group_id, _Group())
        group.last_words = group.last_words or error

    def _died(self, trial: _Trial, lost_node: bool, *, said: str = "", error: str = "") -> None:
        """A trial's workers are gone while they trained it: it is queued again, or has failed."""
        trial.deaths += 0 if lost_node else 1
        if trial.deaths >= MAX_TRIES:
            since = "" if trial.kept_update is None else f" since its state after update {trial.kept_update}"
            died = f"its workers died {trial.deaths} times while training it{since}"
            self._end(trial, error=error or f"{died}{said} (see the trial's log)")
        else:
            trial.status, trial.points = "queued", []

    def kept(self, group_id: str, trial_id: str, update: int, trouble: str) -> None:
        """The state of the trial after an update is whole, and no death before it counts; or why there is none."""
        trial = self._trials[trial_id]
        if self._groups.get(group_id, _Group()).in_hand != trial_id:
            return  # said by workers that have died since
        trial.trouble = trouble
        if not trouble and update > (trial.kept_update or 0):
            trial.kept_update, trial.deaths = update, 0

    def interrupted(self, group_id: str, trial_id: str) -> None:
        """The group was given notice, and has ended the trial's training between two updates: another goes on with it."""
        self._groups[group_id].in_hand = ""
        trial = self._trials[trial_id]
        trial.status, trial.points = "queued", []

    def elsewhere(self, group_id: str, trial_id: str, why: str) -> None:
        """The trial that the group was handed is trained by another launch, or was; `why` is what a person is told."""
        self._groups[group_id].in_hand = ""
        trial = self._trials[trial_id]
        trial.status, trial.points, trial.trouble = "elsewhere", [], why
        # It keeps its place among those that Tune hands out at once, so another takes one that Tune has not handed out.
        kind = self._groups[group_id].kind
        expected = [each for each in self._trials.values() if each.status == "expected"]
        expected.sort(key=lambda each: each.kind != kind)
        if expected:
            expected[0].status = "queued"

    def found(self, trial_id: str, seconds: float) -> None:
        """A trial that was trained elsewhere has its record."""
        self._end(self._trials[trial_id], seconds=seconds)

    def back(self, trial_id: str) -> None:
        """A trial that was trained elsewhere is nobody's any more, and has no record."""
        self._trials[trial_id].status = "queued"

    def is_noticed(self, group_id: str) -> bool:
        """Whether the group is to interrupt what it trains, keep its state and close."""
        return self._is_ending or self._groups.get(group_id, _Group()).noticed

    def point(self, trial_id: str, point: Point) -> None:
        """A point of the trial's curve."""
        self._trials[trial_id].points.append(point)

    def finish(self, group_id: str, trial_id: str, seconds: float) -> None:
        """The trial's record is written; it took so many seconds in all."""
        self._groups[group_id].in_hand = ""
        self._end(self._trials[trial_id], seconds=seconds)

    def fail(self, group_id: str, trial_id: str, error: str) -> None:
        """The trial failed in a way that all its workers saw together; the group lives on."""
        self._groups[group_id].in_hand = ""
        self._end(self._trials[trial_id], error=error)

    def give_up(self, error: str, kind: str | None = None) -> None:
        """Fail every trial (of a kind) that waits: nothing here can train it. One in hand may still end well."""
        for trial in self._trials.values():
            if trial.status in ("expected", "queued") and kind in (None, trial.kind):
                self._end(trial, error=error)

    def _end(self, trial: _Trial, *, seconds: float | None = None, error: str = "") -> None:
        trial.status, trial.seconds, trial.error = ("failed" if error else "finished"), seconds, error

    # the driver's side

    def set_limit(self, limit: int, may_train: int | None = None) -> list[str]:
        """How many groups may hold resources, and how many of them may begin a trial now (default: all).

        Returns the kinds of the groups that are wanted now, in the trials' order.
        """
        self._limit, self._may_train = limit, limit if may_train is None else may_train
        wanted: list[str] = []
        for kind in dict.fromkeys(trial.kind for trial in self._trials.values()):
            waiting = sum(
                trial.status in ("expected", "queued")
                for trial in self._trials.values()
                if trial.kind == kind
            )
            groups = [group for group in self._groups.values() if group.kind == kind and not group.closing]
            free = sum(not group.in_hand for group in groups)
            wanted += [kind] * max(0, waiting - free)
        return wanted[: max(0, limit - len(self._groups))]

    def open_group(self, group_id: str, kind: str = "") -> None:
        """The driver is starting a group; it counts from now on, though its workers are not there yet."""
        self._groups[group_id] = _Group(kind)

    def group_ended(self, group_id: str, error: str = "", dead_nodes: Collection[str] = ()) -> list[str]:
        """The group's Train run is over; with an error, its trial is queued again, as after a death of its workers.

        Returns the ids of the placement groups that it had told: with an error, they may still be held.
        """
        group = self._groups.pop(group_id, _Group())
        if group.in_hand:
            lost_node = not set(group.nodes).isdisjoint(dead_nodes)
            trial = self._trials[group.in_hand]
            self._died(trial, lost_node, error=error or "its worker group ended while training it")
        return group.placements

    def notice(self, nodes: Collection[str] | None = None) -> list[str]:
        """Give notice to the groups that have a worker on one of the nodes, or for good to all; returns those that had none.

        They keep the state of what they train and close; nothing of it counts as a death.
        """
        self._is_ending = self._is_ending or nodes is None
        told = [
            group_id
            for group_id, group in self._groups.items()
            if not group.noticed and (nodes is None or not set(group.nodes).isdisjoint(nodes))
        ]
        for group_id in told:
            self._groups[group_id].noticed = True
        return told

    def news(self) -> dict[str, TrialState]:
        """Where those trials stand for which it is not what was told last, by their ids; at first all of them.

        For the one driver, which asks so often that telling it all of a thousand trials would be most of its work.
        """
        state = self.state()
        news = {trial_id: trial for trial_id, trial in state.items() if trial != self._told.get(trial_id)}
        self._told = state
        return news

    def state(self) -> dict[str, TrialState]:
        """Where every trial stands, by its id."""
        return {
            trial_id: TrialState(
                status=trial.status,
                tries=trial.tries,
                last_point=trial.points[-1] if trial.points else None,
                seconds=trial.seconds,
                error=trial.error,
                kept_update=trial.kept_update,
                trouble=trial.trouble,
            )
            for trial_id, trial in self._trials.items()
        }


def _said(last_words: str) -> str:
    return f", the last time with {last_words}" if last_words else ""
