from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.errors import RayfitError
from rayfit.plan.resources import Resources, check_fits, evaluator_resources, group_limit, worker_resources


@pytest.mark.parametrize(
    ("cpus", "gpus", "num_workers", "use_gpu", "waits", "running", "groups"),
    [
        # a single CPU: one group goes on to its last trial, evaluations come after it
        (1, 0, 1, False, False, 0, 1),
        (1, 0, 1, False, True, 0, 1),
        (1, 0, 1, False, False, 1, 1),
        # two CPUs: one group beside the evaluation, and never two evaluators' room for one evaluation
        (2, 0, 1, False, False, 0, 2),
        (2, 0, 1, False, True, 0, 1),
        (2, 0, 1, False, True, 1, 1),
        (2, 0, 2, False, False, 0, 1),
        (2, 0, 2, False, True, 0, 1),
        # more evaluators run than one: their room is not given away
        (8, 0, 1, False, True, 3, 5),
        (8, 0, 3, False, False, 0, 2),
        (8, 0, 3, False, False, 3, 1),
        # what does not fit at all
        (2, 0, 4, False, False, 0, 0),
        (0, 0, 1, False, False, 0, 0),
        # GPUs: the scarcer of the two decides, and an evaluator takes one of each
        (16, 8, 1, True, False, 0, 8),
        (16, 8, 4, True, False, 0, 2),
        (16, 8, 4, True, True, 0, 1),
        (4, 8, 1, True, False, 0, 4),
        (16, 0, 1, True, False, 0, 0),
        (16, 1, 1, True, True, 0, 1),
        # GPUs that are there and not asked for
        (4, 8, 1, False, False, 0, 4),
        # a fraction of a CPU is none
        (1.5, 0, 1, False, False, 0, 1),
    ],
)
def test_groups_at_once(
    cpus: float, gpus: float, num_workers: int, use_gpu: bool, waits: bool, running: int, groups: int
) -> None:
    limit = group_limit(
        Resources(cpus, gpus),
        num_workers=num_workers,
        use_gpu=use_gpu,
        evaluation_waits=waits,
        evaluators_running=running,
    )
    assert limit == groups


@given(
    st.integers(0, 40), st.integers(0, 10), st.integers(1, 8), st.booleans(), st.booleans(), st.integers(0, 4)
)
def test_groups_and_evaluators_together_fit_the_cluster(
    cpus: int, gpus: int, num_workers: int, use_gpu: bool, waits: bool, running: int
) -> None:
    cluster = Resources(cpus, gpus)
    groups = group_limit(
        cluster, num_workers=num_workers, use_gpu=use_gpu, evaluation_waits=waits, evaluators_running=running
    )
    evaluators = max(running, int(waits))
    if groups > 1:
        need = (groups * num_workers + evaluators) * worker_resources(use_gpu).cpus
        assert need <= cpus
        assert not use_gpu or groups * num_workers + evaluators <= gpus
    # and one group more would not; a single group that fits the cluster alone is never kept from it
    assert groups or num_workers > cpus or (use_gpu and num_workers > gpus)
    more = (groups + 1) * num_workers + evaluators
    assert more > cpus or (use_gpu and more > gpus)


def test_a_worker_and_an_evaluator_ask_for_the_same() -> None:
    assert worker_resources(False) == evaluator_resources(False) == Resources(1, 0)
    assert worker_resources(True) == evaluator_resources(True) == Resources(1, 1)


def test_a_trial_that_can_never_run_is_refused_with_the_numbers() -> None:
    check_fits(Resources(4, 0), num_workers=4, use_gpu=False)
    with pytest.raises(
        RayfitError, match=r"--num-workers: 8 workers need 8 CPUs and 0 GPUs.* has 4 CPUs"
    ) as caught:
        check_fits(Resources(4, 0), num_workers=8, use_gpu=False)
    assert "--use-gpu" not in str(caught.value)
    with pytest.raises(RayfitError, match=r"1 workers need 1 CPUs and 1 GPUs.* 0 GPUs; .*give --use-gpu no"):
        check_fits(Resources(4, 0), num_workers=1, use_gpu=True)
