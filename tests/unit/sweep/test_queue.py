from __future__ import annotations

import pytest

from rayfit.records.trial import Point
from rayfit.sweep.queue import MAX_STARTS_WITHOUT_WORK, MAX_TRIES, TrialQueue


def queue_of(*trial_ids: str, submitted: bool = True, **options: int) -> TrialQueue:
    queue = TrialQueue({trial_id: f"task of {trial_id}" for trial_id in trial_ids}, **options)
    if submitted:
        for trial_id in trial_ids:
            queue.submit(trial_id)
    return queue


def _point(update: int) -> Point:
    return Point(
        update=update,
        epoch=0.0,
        train_loss=1.0,
        train_accuracy=0.5,
        batch_loss=None,
        validation_loss=2.0,
        validation_entropy_nats=1.0,
        gradient_norm=None,
        train_rows=8,
        seconds=1.0,
    )


def start(queue: TrialQueue, *group_ids: str) -> None:
    for group_id in group_ids:
        queue.open_group(group_id)
        assert queue.hello(group_id)


def statuses(queue: TrialQueue) -> dict[str, str]:
    return {trial_id: trial.status for trial_id, trial in queue.state().items()}


def test_one_group_trains_trials_in_the_plan_s_order_and_closes() -> None:
    queue = queue_of("a", "b")
    assert len(queue.set_limit(1)) == 1
    start(queue, "g")
    for trial_id in ("a", "b"):
        assert queue.next("g") == ("train", f"task of {trial_id}")
        assert statuses(queue)[trial_id] == "running"
        queue.finish("g", trial_id, 7.5)
    assert queue.next("g") == ("close", None)
    queue.group_ended("g")
    assert statuses(queue) == {"a": "finished", "b": "finished"}
    assert queue.state()["a"].seconds == 7.5
    assert len(queue.set_limit(4)) == 0


def test_what_a_group_held_is_told_when_it_has_ended() -> None:
    queue = queue_of("a")
    start(queue, "g")
    for placement in ("one", "after a restart"):
        queue.holds("g", placement)
    assert queue.group_ended("g", "its controller died") == ["one", "after a restart"]
    assert queue.group_ended("h", "it never came up") == []


def test_a_group_waits_for_what_tune_has_not_submitted_yet() -> None:
    queue = queue_of("a", submitted=False)
    assert len(queue.set_limit(1)) == 1  # a group may start before the trial is here
    start(queue, "g")
    assert queue.next("g") == ("wait", None)
    queue.submit("a")
    assert queue.next("g") == ("train", "task of a")


@pytest.mark.parametrize("when", ["queued", "running", "finished", "failed"])
def test_submitting_twice_changes_nothing(when: str) -> None:
    queue = queue_of("a")
    start(queue, "g")
    if when != "queued":
        queue.next("g")
    if when == "finished":
        queue.finish("g", "a", 7.5)
    if when == "failed":
        queue.fail("g", "a", "nan")
    before = queue.state()
    queue.submit("a")
    assert queue.state() == before and statuses(queue)["a"] == when


def test_a_trial_in_hand_when_the_workers_die_is_trained_again_and_then_failed() -> None:
    queue = queue_of("a", "b")
    start(queue, "g")
    for _ in range(MAX_TRIES):
        assert queue.next("g") == ("train", "task of a")
        assert queue.hello("g")  # the group's new workers
    state = queue.state()
    assert (state["a"].status, state["a"].tries) == ("failed", MAX_TRIES)
    assert f"died {MAX_TRIES} times" in state["a"].error
    assert queue.next("g") == ("train", "task of b")  # one trial's fault is not the others'


def test_a_trial_in_hand_when_the_group_ends_is_trained_by_another() -> None:
    queue = queue_of("a")
    for number in range(MAX_TRIES):
        start(queue, f"g{number}")
        assert queue.next(f"g{number}") == ("train", "task of a")
        queue.group_ended(f"g{number}", "the node is gone")
        expected = "queued" if number + 1 < MAX_TRIES else "failed"
        assert statuses(queue) == {"a": expected}
    assert queue.state()["a"].error == "the node is gone"
    assert len(queue.set_limit(1)) == 0


def test_a_group_that_ends_without_an_error_in_its_hands_still_fails_its_trial_with_words() -> None:
    queue = queue_of("a")
    for number in range(MAX_TRIES):
        start(queue, f"g{number}")
        queue.next(f"g{number}")
        queue.group_ended(f"g{number}")
    assert statuses(queue) == {"a": "failed"} and queue.state()["a"].error


def test_points_of_an_interrupted_try_do_not_stay() -> None:
    queue = queue_of("a")
    start(queue, "g")
    queue.next("g")
    for update in (0, 20):
        queue.point("a", _point(update))
    assert queue.events("a", 1) == ([_point(20)], "running", "")
    queue.hello("g")
    assert queue.state()["a"].last_point is None
    queue.next("g")
    for update in (0, 20, 40):
        queue.point("a", _point(update))
    # Whoever has seen two points goes on at the third: none is told twice.
    assert queue.events("a", 2) == ([_point(40)], "running", "")


def test_an_error_that_all_workers_saw_fails_the_trial_and_not_the_group() -> None:
    queue = queue_of("a", "b")
    start(queue, "g")
    queue.next("g")
    queue.fail("g", "a", "the loss is nan at update 3")
    assert queue.events("a", 0) == ([], "failed", "the loss is nan at update 3")
    assert queue.next("g") == ("train", "task of b")


def test_a_group_that_dies_before_it_asks_for_work_gives_up() -> None:
    queue = queue_of("a", "b")
    queue.open_group("g")
    for _ in range(MAX_STARTS_WITHOUT_WORK):
        assert queue.hello("g")
    assert not queue.hello("g")
    assert statuses(queue) == {"a": "failed", "b": "failed"}
    assert f"died {MAX_STARTS_WITHOUT_WORK} times before" in queue.state()["a"].error


def test_starts_are_counted_anew_once_a_group_worked() -> None:
    queue = queue_of("a", "b")
    queue.open_group("g")
    for _ in range(2):
        for _ in range(MAX_STARTS_WITHOUT_WORK - 1):
            assert queue.hello("g")
        queue.next("g")
    assert "failed" not in statuses(queue).values()


def test_giving_up_leaves_a_trial_alone_that_another_group_is_training() -> None:
    queue = queue_of("a", "b")
    queue.set_limit(2)
    start(queue, "good")
    assert queue.next("good") == ("train", "task of a")
    queue.give_up("three groups ended with errors")
    assert statuses(queue) == {"a": "running", "b": "failed"}
    queue.finish("good", "a", 7.5)
    assert statuses(queue) == {"a": "finished", "b": "failed"}
    assert queue.next("good") == ("close", None)


def test_a_group_is_replaced_after_its_number_of_trials() -> None:
    queue = queue_of("a", "b", "c", trials_per_group=2)
    queue.set_limit(1)
    start(queue, "g")
    for trial_id in ("a", "b"):
        assert queue.next("g") == ("train", f"task of {trial_id}")
        queue.finish("g", trial_id, 7.5)
    assert queue.next("g") == ("close", None)
    assert len(queue.set_limit(1)) == 0  # its resources are not free yet
    queue.group_ended("g")
    assert len(queue.set_limit(1)) == 1
    start(queue, "h")
    assert queue.next("h") == ("train", "task of c")


def test_a_failed_trial_counts_for_its_group_too() -> None:
    queue = queue_of("a", "b", trials_per_group=1)
    start(queue, "g")
    queue.next("g")
    queue.fail("g", "a", "nan")
    assert queue.next("g") == ("close", None)


def test_a_group_that_was_told_to_close_gets_no_more_work_though_its_workers_start_again() -> None:
    queue = queue_of("a", "b", trials_per_group=1)
    queue.set_limit(2)
    start(queue, "g")
    queue.next("g")
    queue.finish("g", "a", 7.5)
    assert queue.next("g") == ("close", None)
    assert not queue.hello("g")
    assert statuses(queue)["b"] == "queued"


def test_when_the_limit_falls_groups_close_after_their_trials() -> None:
    queue = queue_of("a", "b", "c")
    assert len(queue.set_limit(2)) == 2
    start(queue, "g", "h")
    queue.next("g"), queue.next("h")
    assert len(queue.set_limit(1)) == 0
    queue.finish("g", "a", 7.5)
    assert queue.next("g") == ("close", None)
    queue.finish("h", "b", 7.5)
    assert queue.next("h") == ("train", "task of c")  # only one had to go
    assert len(queue.set_limit(1)) == 0  # g holds its resources until it has ended
    queue.group_ended("g")
    assert len(queue.set_limit(1)) == 0
    queue.finish("h", "c", 7.5)
    assert queue.next("h") == ("close", None)


def test_groups_that_must_make_room_wait_with_their_engines_built() -> None:
    queue = queue_of("a", "b", "c")
    queue.set_limit(2)
    start(queue, "g", "h")
    queue.next("g"), queue.next("h")
    assert queue.set_limit(2, 1) == []
    queue.finish("g", "a", 7.5)
    assert queue.next("g") == ("wait", None), "h trains, and one may"
    queue.finish("h", "b", 7.5)
    assert queue.next("g") == ("train", "task of c")
    assert queue.next("h") == ("close", None)


@pytest.mark.parametrize(("trials", "limit", "wanted"), [(3, 8, 3), (3, 2, 2), (3, 0, 0), (1, 4, 1)], ids=str)
def test_no_more_groups_are_wanted_than_there_is_work_or_room(trials: int, limit: int, wanted: int) -> None:
    queue = queue_of(*"abc"[:trials])
    assert len(queue.set_limit(limit)) == wanted
    for number in range(wanted):
        queue.open_group(f"g{number}")
    assert len(queue.set_limit(limit)) == 0  # those that are starting count


def test_a_busy_group_does_not_stand_in_for_a_waiting_trial() -> None:
    queue = queue_of("a", "b")
    queue.set_limit(1)
    start(queue, "g")
    queue.next("g")
    assert len(queue.set_limit(2)) == 1


def test_without_trials_there_is_nothing_to_do() -> None:
    queue = TrialQueue({})
    assert queue.state() == {} and queue.set_limit(5) == []


def test_what_does_not_fit_fails_at_once_with_all_of_its_kind() -> None:
    queue = TrialQueue({"a": 1, "b": 2, "c": 3}, kinds={"a": "x", "b": "x", "c": "y"})
    for trial_id in "abc":
        queue.submit(trial_id)
    queue.open_group("g", "x")
    queue.set_limit(1)
    assert queue.hello("g") and queue.next("g") == ("train", 1)
    queue.cannot_train("g", "out of GPU memory")
    assert statuses(queue) == {"a": "failed", "b": "failed", "c": "queued"}
    assert {queue.state()[key].error for key in "ab"} == {"out of GPU memory"}
    assert queue.state()["a"].tries == 1, "nothing is tried again"
    queue.group_ended("g")
    assert queue.set_limit(1) == ["y"]


def test_the_last_error_of_the_workers_is_told_of_their_trial() -> None:
    queue = TrialQueue({"a": 1})
    queue.submit("a")
    queue.open_group("g")
    queue.set_limit(1)
    for _ in range(MAX_TRIES):
        assert queue.hello("g") and queue.next("g") == ("train", 1)
        queue.dies("g", "OSError: No space left on device")
    assert queue.hello("g")
    error = queue.state()["a"].error
    assert f"died {MAX_TRIES} times" in error and "with OSError: No space left on device" in error


def test_a_model_that_cannot_be_built_fails_its_trials_at_once_and_no_others() -> None:
    queue = TrialQueue({"a": 1, "b": 2, "c": 3}, kinds={"a": "x", "b": "x", "c": "y"})
    for trial_id in "abc":
        queue.submit(trial_id)
    queue.open_group("g", "x")
    assert queue.hello("g")
    queue.cannot_train("g", "it lacks weights")
    queue.cannot_train("g", "it lacks weights")  # another rank
    assert not queue.hello("g"), "workers that are started again go"
    assert statuses(queue) == {"a": "failed", "b": "failed", "c": "queued"}
    assert queue.state()["a"].error == "it lacks weights"
    queue.group_ended("g")
    assert queue.set_limit(2) == ["y"]
