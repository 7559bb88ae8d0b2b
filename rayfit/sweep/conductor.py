"""The driver's loop: groups started as the cluster allows, trials watched, evaluations run beside them."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from rayfit.errors import RayfitError
from rayfit.plan.deepspeed import deepspeed_config, effective_zero_stage
from rayfit.plan.resources import check_fits, evaluator_resources, group_limit
from rayfit.records.provenance import now
from rayfit.records.trials import write_failure
from rayfit.sweep.cluster import HEAD, NAMESPACE, cluster_resources
from rayfit.sweep.evaluators import EvaluationPool, Job
from rayfit.sweep.group import run_group
from rayfit.sweep.progress import TrialProgress
from rayfit.sweep.queue import MAX_TRIES, TrialQueue
from rayfit.sweep.tasks import evaluation_task, trial_task
from rayfit.sweep.tune import TuneRun

if TYPE_CHECKING:
    from rayfit.sweep.driver import Launch

_TICK_SECONDS = 0.2
_MAX_FAILED_GROUPS = 3

# Large blocks go back to the system when freed; otherwise every worker that loads a model at stage 3 stays at the whole
# model's size. Not on CPUs, where it makes each update twice as slow, for its activations are such blocks.
_FREE_LOADED = {"MALLOC_MMAP_THRESHOLD_": "131072"}


class Conductor:
    """Runs what a launch has to do, on a Ray that is there."""

    def __init__(self, launch: Launch, environment: dict[str, str], track: Any) -> None:
        self._launch, self._environment, self._track = launch, environment, track
        self._placement = launch.plan.placement
        self._cluster = cluster_resources()
        check_fits(self._cluster, num_workers=self._placement.num_workers, use_gpu=self._placement.use_gpu)
        self._stamp = secrets.token_hex(3)
        self._groups: dict[Any, str] = {}
        self._failed_groups = 0
        self._handled: set[str] = set()
        self._trials = {str(trial.id): trial for trial in launch.trials}
        self._pool = EvaluationPool(launch.storage, self._placement.use_gpu, environment)
        self._queue: Any = None
        self._tune: TuneRun | None = None

    def run(self) -> None:
        """Until every trial and every evaluation has ended."""
        self._start_queue()
        for trial, decoding in self._launch.evaluations:
            if trial is None or str(trial.id) not in self._trials:
                self._ask_for_evaluation(trial, decoding)
        progress = TrialProgress(
            self._launch.console, {key: trial.recipe.num_updates for key, trial in self._trials.items()}
        )
        while not self._tick(progress):
            time.sleep(_TICK_SECONDS)
        if self._tune is not None:
            self._tune.join()

    def _start_queue(self) -> None:
        import ray

        launch = self._launch
        name = f"trials-{self._stamp}"
        tasks = {
            key: trial_task(launch.prepared, trial, launch.storage, launch.script)
            for key, trial in self._trials.items()
        }
        remote = ray.remote(num_cpus=0, resources=HEAD)(TrialQueue)
        self._queue = remote.options(name=name, namespace=NAMESPACE).remote(
            tasks, trials_per_group=self._placement.trials_per_group
        )
        if not tasks:
            return
        at_once = group_limit(
            self._cluster,
            num_workers=self._placement.num_workers,
            use_gpu=self._placement.use_gpu,
            evaluation_waits=False,
        )
        self._tune = TuneRun(
            queue=name,
            trial_ids=list(tasks),
            at_once=max(1, at_once),
            folder=launch.storage.root / "logs" / "tune",
            name=f"tune-{self._stamp}",
        )
        self._tune.start()

    def _tick(self, progress: TrialProgress) -> bool:
        """One look around; True when all is done."""
        import ray

        state = ray.get(self._queue.state.remote())
        progress.update(state)
        for trial_id, trial in state.items():
            if trial["status"] in ("finished", "failed") and trial_id not in self._handled:
                self._handled.add(trial_id)
                self._trial_ended(trial_id, trial["error"])
        training = len(self._handled) < len(self._trials)
        self._run_groups(training)
        for job in self._pool.step(self._max_evaluators(training)):
            self._evaluation_ended(job)
        if self._tune is not None and self._tune.error is not None:
            raise RayfitError(f"Ray Tune ended early: {self._tune.error}")
        if self._tune is not None and not self._tune.is_alive():
            self._give_up_what_tune_left(ray.get(self._queue.state.remote()))
        return not training and self._pool.done and not self._groups

    def _give_up_what_tune_left(self, state: dict[str, dict[str, Any]]) -> None:
        """Tune ends once all its trials have; one that it never handed out would be waited for without end."""
        import ray

        if any(trial["status"] == "expected" for trial in state.values()):
            error = "Ray Tune ended before it handed the trial out (see logs/launches in the storage)"
            ray.get(self._queue.give_up.remote(error))

    def _trial_ended(self, trial_id: str, error: str) -> None:
        launch, trial = self._launch, self._trials[trial_id]
        if error:
            launch.fail_trial(trial_id, error)
            about = {"declared": trial.declared(), "readable": trial.readable}
            write_failure(launch.storage, trial_id, {**about, "error": error, "failed_at": now()})
            return
        for wanted, decoding in launch.evaluations:
            if wanted is trial:
                self._ask_for_evaluation(trial, decoding)

    def _ask_for_evaluation(self, trial: Any, decoding: Any) -> None:
        task = evaluation_task(self._launch.prepared, trial, decoding, self._launch.storage)
        key = (None if trial is None else str(trial.id), decoding.name)
        self._pool.add(Job(key, task))

    def _evaluation_ended(self, job: Job) -> None:
        trial_id, decoding = job.key
        name = f"{trial_id or 'original model'}  {decoding}"
        if job.status == "failed":
            self._launch.errors[job.key] = f"evaluation: {job.error}"
            self._launch.console.say(f"{name}  evaluation FAILED: {job.error}")
        else:
            self._launch.console.say(f"{name}  evaluated")
        self._track.update(self._launch)

    def _max_evaluators(self, training: bool) -> int:
        need = evaluator_resources(self._placement.use_gpu)
        if not training:
            return max(1, self._cluster.holds(need))
        # One beside the training; more only make training wait.
        return 1

    def _run_groups(self, training: bool) -> None:
        import ray

        ended, _ = (
            ray.wait(list(self._groups), num_returns=len(self._groups), timeout=0)
            if self._groups
            else ([], [])
        )
        for reference in ended:
            group_id = self._groups.pop(reference)
            try:
                error = ray.get(reference)
            except ray.exceptions.RayError as failure:
                error = str(failure)
            ray.get(self._queue.group_ended.remote(group_id, error))
            if error:
                self._failed_groups += 1
                self._launch.console.say(
                    f"worker group {group_id} ended with an error: {error.strip().splitlines()[-1]}"
                )
        if not training:
            ray.get(self._queue.set_limit.remote(0))
            return
        if self._failed_groups >= _MAX_FAILED_GROUPS:
            ray.get(self._queue.give_up.remote(f"{self._failed_groups} worker groups ended with errors"))
            return
        limit = group_limit(
            self._cluster,
            num_workers=self._placement.num_workers,
            use_gpu=self._placement.use_gpu,
            evaluation_waits=self._pool.waits,
            evaluators_running=self._pool.num_actors,
        )
        for _ in range(ray.get(self._queue.set_limit.remote(limit))):
            self._start_group()

    def _start_group(self) -> None:
        import ray

        launch, placement = self._launch, self._placement
        group_id = f"group-{self._stamp}-{secrets.token_hex(2)}"
        recipe = launch.plan.trials[0].recipe
        stage, _ = effective_zero_stage(placement.zero_stage, recipe.precision)
        config = {
            "group_id": group_id,
            "queue": f"trials-{self._stamp}",
            "namespace": NAMESPACE,
            "storage": str(launch.storage.root),
            "model_path": str(launch.prepared.model_path),
            "deepspeed": deepspeed_config(
                zero_stage=stage,
                precision=recipe.precision,
                batch_size=recipe.batch_size,
                num_workers=placement.num_workers,
            ),
            "use_gpu": placement.use_gpu,
            "num_threads": 1,
            "max_restarts": MAX_TRIES * (len(self._trials) + 1),
        }
        ray.get(self._queue.open_group.remote(group_id))
        host = ray.remote(num_cpus=0, resources=HEAD, max_retries=0)(run_group)
        reference = host.options(runtime_env={"env_vars": self._environment}).remote(
            config,
            num_workers=placement.num_workers,
            train_folder=str(launch.storage.root / "logs" / "train"),
            environment={**self._environment, **(_FREE_LOADED if placement.use_gpu and stage == 3 else {})},
        )
        self._groups[reference] = group_id
