"""Trials that are interrupted, go on from their states, or are trained by others."""

from __future__ import annotations

from rayfit.sweep.queue import MAX_TRIES, TrialQueue
from tests.unit.sweep.test_queue import queue_of, start, statuses


def test_deaths_count_from_the_newest_state_on() -> None:
    queue = queue_of("a")
    start(queue, "g")
    assert queue.next("g")[0] == "train"
    for update in (10, 20, 30):
        for _ in range(MAX_TRIES - 1):
            assert queue.hello("g")
            assert queue.next("g")[0] == "train"
        queue.kept("g", "a", update, "")
    assert queue.state()["a"].kept_update == 30 and queue.state()["a"].tries > 2 * MAX_TRIES
    for _ in range(MAX_TRIES - 1):
        queue.hello("g")
        queue.next("g")
    queue.kept("g", "a", 30, "")  # no newer one
    queue.hello("g")
    assert statuses(queue) == {"a": "failed"}
    assert (
        f"died {MAX_TRIES} times while training it since its state after update 30"
        in queue.state()["a"].error
    )


def test_a_death_with_its_node_costs_no_try() -> None:
    queue = queue_of("a")
    queue.open_group("g")
    for number in range(3 * MAX_TRIES):
        assert queue.hello("g", (f"node-{number}", "node-x"), tuple(f"node-{each}" for each in range(number)))
        assert queue.next("g") == ("train", "task of a")
    assert queue.group_ended("g", "its controller went with the node", ("node-x",)) == []
    assert statuses(queue) == {"a": "queued"}
    queue.open_group("h")
    for _ in range(MAX_TRIES):
        assert queue.hello("h", ("node-z",), ("node-1", "node-2"))
        queue.next("h")
    queue.hello("h", ("node-z",), ("node-1", "node-2"))
    assert statuses(queue) == {"a": "failed"}, "its own node was there all the time"


def test_a_group_that_was_given_notice_interrupts_and_another_goes_on() -> None:
    queue = queue_of("a", "b")
    queue.set_limit(2)
    for group, node in (("g", "here"), ("h", "there")):
        queue.open_group(group)
        assert queue.hello(group, (node,)) and queue.next(group)[0] == "train"
    assert queue.notice(["there", "another"]) == ["h"] and queue.notice(["there"]) == []
    assert (queue.is_noticed("g"), queue.is_noticed("h")) == (False, True)
    queue.kept("h", "b", 7, "")
    queue.interrupted("h", "b")
    assert queue.next("h") == ("close", None)
    queue.group_ended("h")
    assert statuses(queue) == {"a": "running", "b": "queued"} and queue.set_limit(2) == [""]
    queue.finish("g", "a", 7.5)
    assert queue.next("g") == ("train", "task of b")
    assert queue.state()["b"].kept_update == 7


def test_when_all_is_to_end_no_group_gets_work_any_more() -> None:
    queue = queue_of("a", "b")
    start(queue, "g")
    queue.next("g")
    assert queue.notice() == ["g"]
    queue.interrupted("g", "a")
    assert queue.next("g") == ("close", None)
    queue.open_group("h")
    queue.hello("h")
    assert queue.is_noticed("h") and queue.next("h") == ("close", None)


def test_what_is_said_by_workers_that_have_died_since_counts_nothing() -> None:
    queue = queue_of("a")
    start(queue, "g")
    queue.next("g")
    queue.group_ended("g", "gone")
    queue.kept("g", "a", 40, "")
    assert queue.state()["a"].kept_update is None


def test_a_trial_that_others_train_is_waited_for() -> None:
    queue = queue_of("a", "b")
    start(queue, "g")
    for trial_id in ("a", "b"):
        assert queue.next("g") == ("train", f"task of {trial_id}")
        queue.elsewhere("g", trial_id, "it is trained by process 7")
    assert statuses(queue) == {"a": "elsewhere", "b": "elsewhere"}
    assert "process 7" in queue.state()["a"].trouble
    assert queue.next("g") == ("close", None)
    queue.group_ended("g")
    assert queue.set_limit(1) == []
    queue.found("a", 7.5)
    queue.back("b")
    assert statuses(queue) == {"a": "finished", "b": "queued"}
    assert queue.set_limit(1) == [""]


def test_a_trial_that_others_train_does_not_keep_those_from_being_trained_that_tune_has_not_handed_out() -> (
    None
):
    queue = TrialQueue({"a": "A", "b": "B", "c": "C"}, kinds={"a": "x", "b": "y", "c": "x"})
    queue.submit("a")
    queue.open_group("g", "x")
    assert queue.hello("g") and queue.next("g") == ("train", "A")
    queue.elsewhere("g", "a", "it is trained by process 7")
    assert statuses(queue) == {"a": "elsewhere", "b": "expected", "c": "queued"}
    assert queue.next("g") == ("train", "C")
    queue.submit("c")  # Tune's own, later
    assert statuses(queue)["c"] == "running"
