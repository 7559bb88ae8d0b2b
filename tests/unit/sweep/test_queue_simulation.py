"""The queue under everything that can happen to it, in random order."""

from __future__ import annotations

import random

import pytest

from rayfit.sweep.queue import MAX_STARTS_WITHOUT_WORK, MAX_TRIES, TrialQueue

ENDED = ("finished", "failed")


class World:
    """Groups as the driver and Ray run them. What must be true is kept here, apart from the queue's own notes."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ids = [f"trial-{number}" for number in range(rng.randint(1, 6))]
        self.per_group = rng.choice([0, 0, 1, 2])
        self.queue = TrialQueue(
            {trial_id: trial_id for trial_id in self.ids}, trials_per_group=self.per_group
        )
        self.may_train = 1
        self.starting: set[str] = set()  # opened by the driver, without workers yet
        self.in_hand: dict[str, str] = {}  # what each group with workers is training, "" for nothing
        self.closing: set[str] = set()
        self.served: dict[str, int] = {}
        self.deaths = dict.fromkeys(self.ids, 0)  # since the newest state, of which `kept` has the update
        self.kept = dict.fromkeys(self.ids, 0)
        self.nodes: dict[str, str] = {}
        self.dead_nodes: set[str] = set()
        self.elsewhere: set[str] = set()
        self.ended: dict[str, str] = {}

    def idle(self) -> list[str]:
        return sorted(name for name, trial in self.in_hand.items() if not trial and name not in self.closing)

    def busy(self) -> list[str]:
        return sorted(name for name, trial in self.in_hand.items() if trial)

    def tick(self, limit: int) -> None:
        """The driver's look around."""
        self.may_train = self.rng.choice([limit, limit, 1])
        wanted = len(self.queue.set_limit(limit, self.may_train))
        assert 0 <= wanted <= max(0, limit - len(self.starting) - len(self.in_hand))
        for _ in range(wanted):
            name = f"group-{len(self.served)}"
            self.queue.open_group(name)
            self.starting.add(name)
            self.served[name] = 0

    def start_workers(self, name: str) -> None:
        """The first time, or again after they died with whatever they had in hand."""
        self.starting.discard(name)
        if self.in_hand.get(name) and self.nodes[name] not in self.dead_nodes:
            self.deaths[self.in_hand[name]] += 1
        self.in_hand[name] = ""
        self.nodes[name] = f"node-{self.rng.randint(0, 99)}-{len(self.dead_nodes)}"
        if not self.queue.hello(name, (self.nodes[name],), frozenset(self.dead_nodes)):
            self.closing.add(name)

    def lose_node(self, name: str) -> None:
        """The group's node goes, and Train starts its workers on another."""
        self.dead_nodes.add(self.nodes[name])
        self.start_workers(name)

    def keep(self, name: str) -> None:
        """A state of what the group trains is whole: a newer one, or none at all."""
        trial_id = self.in_hand[name]
        update = self.kept[trial_id] + self.rng.randint(0, 2)
        self.queue.kept(name, trial_id, update, "")
        if update > self.kept[trial_id]:
            self.kept[trial_id], self.deaths[trial_id] = update, 0

    def interrupt(self, name: str) -> None:
        """A node is drained, and the group on it keeps its state and closes."""
        self.queue.notice([self.nodes[name]])
        assert self.queue.is_noticed(name)
        trial_id, self.in_hand[name] = self.in_hand[name], ""
        self.queue.interrupted(name, trial_id)
        assert self.queue.next(name) == ("close", None)
        self.closing.add(name)

    def see_elsewhere(self, name: str) -> None:
        """Another launch holds the trial's lease."""
        trial_id, self.in_hand[name] = self.in_hand[name], ""
        self.queue.elsewhere(name, trial_id, "it is trained by process 7")
        self.elsewhere.add(trial_id)

    def come_back(self, trial_id: str, *, found: bool) -> None:
        """The other launch has trained it, or has given it up."""
        self.elsewhere.discard(trial_id)
        if found:
            self.queue.found(trial_id, 7.5)
        else:
            self.queue.back(trial_id)

    def ask(self, name: str) -> None:
        order, task = self.queue.next(name)
        if order == "close":
            self.closing.add(name)
        if order == "train":
            assert len(self.busy()) < self.may_train
            assert task not in self.in_hand.values(), f"{task} is trained by two groups at once"
            assert task not in self.ended, f"{task} has ended and is trained again"
            self.in_hand[name] = task
            self.served[name] += 1
            assert task not in self.elsewhere
            assert self.deaths[task] < MAX_TRIES
            assert not self.per_group or self.served[name] <= self.per_group

    def end_trial(self, name: str, *, good: bool) -> None:
        trial_id, self.in_hand[name] = self.in_hand[name], ""
        if good:
            self.queue.finish(name, trial_id, 7.5)
        else:
            self.queue.fail(name, trial_id, "not finite")
        assert self.queue.state()[trial_id].status == ("finished" if good else "failed")

    def end_group(self, name: str, error: str = "") -> None:
        if self.in_hand.get(name) and self.nodes[name] not in self.dead_nodes:
            self.deaths[self.in_hand[name]] += 1
        self.queue.group_ended(name, error, frozenset(self.dead_nodes))
        self.starting.discard(name)
        self.in_hand.pop(name, None)
        self.closing.discard(name)

    def step(self) -> None:
        """One thing that can happen now."""
        everyone = sorted({*self.starting, *self.in_hand})
        happenings = {
            "submit": (6, self.ids),
            "tick": (6, [0, 1, 2, 3]),
            "workers start": (6, sorted(self.starting)),
            "ask": (10, self.idle()),
            "trial finished": (5, self.busy()),
            "trial failed": (1, self.busy()),
            "workers died": (3, sorted(self.in_hand)),
            "node lost": (1, sorted(self.in_hand)),
            "state kept": (4, self.busy()),
            "drained": (1, self.busy()),
            "elsewhere": (1, self.busy()),
            "found": (1, sorted(self.elsewhere)),
            "back": (1, sorted(self.elsewhere)),
            "workers keep dying": (0.5, everyone),
            "group died": (1, everyone),
            "group closed": (5, sorted(self.closing)),
        }
        possible = {name: (weight, whom) for name, (weight, whom) in happenings.items() if whom}
        (happening,) = self.rng.choices(list(possible), [weight for weight, _ in possible.values()])
        self.happen(happening, self.rng.choice(possible[happening][1]))

    def happen(self, happening: str, whom: str | int) -> None:
        match happening, whom:
            case "submit", str():
                self.queue.submit(whom)
            case "tick", int():
                self.tick(whom)
            case "ask", str():
                self.ask(whom)
            case (("workers start" | "workers died"), str()):
                self.start_workers(whom)
            case "node lost", str():
                self.lose_node(whom)
            case "state kept", str():
                self.keep(whom)
            case "drained", str():
                self.interrupt(whom)
            case "elsewhere", str():
                self.see_elsewhere(whom)
            case (("found" | "back"), str()):
                self.come_back(whom, found=happening == "found")
            case "workers keep dying", str():
                for _ in range(MAX_STARTS_WITHOUT_WORK + 1):
                    self.start_workers(whom)
                assert whom in self.closing
            case (("trial finished" | "trial failed"), str()):
                self.end_trial(whom, good=happening == "trial finished")
            case (("group died" | "group closed"), str()):
                self.end_group(whom, self.rng.choice(["", "the node is gone"]))

    def check(self) -> None:
        """What must be true at any moment."""
        state = self.queue.state()
        for trial_id, trial in state.items():
            if trial_id in self.ended:
                assert trial.status == self.ended[trial_id], f"{trial_id} had ended"
            elif trial.status in ENDED:
                self.ended[trial_id] = trial.status
            assert (trial.status == "failed") == bool(trial.error)
            assert (trial.status == "elsewhere") == (trial_id in self.elsewhere)
            assert (trial.kept_update or 0) == self.kept[trial_id]
            assert self.deaths[trial_id] < MAX_TRIES or trial.status == "failed"
        running = sorted(trial_id for trial_id, trial in state.items() if trial.status == "running")
        assert running == sorted(trial for trial in self.in_hand.values() if trial)

    def settle(self) -> None:
        """A driver that looks around, and groups that do their work, until nothing is left to do."""
        for trial_id in self.ids:
            self.queue.submit(trial_id)
        for trial_id in sorted(self.elsewhere):
            self.come_back(trial_id, found=False)
        for _ in range(40):
            self.tick(2)
            for name in sorted(self.starting):
                self.start_workers(name)
            for name in sorted(self.in_hand):
                if self.in_hand[name]:
                    self.end_trial(name, good=True)
                elif name in self.closing:
                    self.end_group(name)
                else:
                    self.ask(name)
            self.check()


@pytest.mark.parametrize("seed", range(300))
def test_whatever_happens_no_trial_is_trained_twice_at_once_and_every_trial_ends(seed: int) -> None:
    world = World(random.Random(seed))
    for _ in range(80):
        world.step()
        world.check()
    world.settle()
    assert sorted(world.ended) == world.ids
    assert not world.in_hand and not world.starting, "a group is left that was not told to close"
