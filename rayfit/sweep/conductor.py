"""The driver's loop: groups started as the cluster allows, trials watched, evaluations run beside them."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rayfit.allocator import ONE_ARENA
from rayfit.errors import RayfitError
from rayfit.plan.deepspeed import deepspeed_config, effective_zero_stage
from rayfit.plan.measurements import Measurement
from rayfit.plan.resources import check_fits, evaluator_resources, group_limit, worker_resources
from rayfit.plan.sources import count_parameters
from rayfit.plan.work import training_work
from rayfit.records.provenance import now
from rayfit.records.sweep import SweepRecord
from rayfit.records.trial import TrialFailure
from rayfit.records.trials import write_failure
from rayfit.sweep.cluster import HEAD, NAMESPACE, cluster_resources, joins_running_ray
from rayfit.sweep.evaluators import EvaluationPool, Job, jobs_of
from rayfit.sweep.group_run import GroupRun
from rayfit.sweep.kinds import group_kind, in_groups
from rayfit.sweep.launch import Launch
from rayfit.sweep.nodes import dead_nodes
from rayfit.sweep.notice import Watch, interrupt_all
from rayfit.sweep.progress import Overview
from rayfit.sweep.queue import MAX_TRIES, TrialQueue, TrialState
from rayfit.sweep.record import with_failures, write_record
from rayfit.sweep.tasks import trial_task
from rayfit.sweep.trial import GroupConfig
from rayfit.sweep.tune import TuneRun
from rayfit.sweep.yielding import Yielding
from rayfit.track.tracker import Tracker

_TICK_SECONDS = 0.5
_LOOK_SECONDS = 0.9  # each costs the driver and the queue some milliseconds
_MAX_FAILED_GROUPS = 3

# Large blocks go back to the system when freed; otherwise every worker that loads a model stays at the whole model's size.
# Not on CPUs, where it makes each update twice as slow, for its activations are such blocks. cuBLAS gives the same bits
# each time with a workspace of its own for each stream alone.
_ON_GPUS = {"MALLOC_MMAP_THRESHOLD_": "131072", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


class Conductor:
    """Runs what a launch has to do, on a Ray that is there."""

    def __init__(
        self, launch: Launch, record: SweepRecord, environment: dict[str, str], track: Tracker
    ) -> None:
        self._launch, self._environment, self._track = launch, environment, track
        self._record, self._is_written = record, True
        self._use_gpu = bool(launch.plan.options.use_gpu)
        # Models differ in their workers; the sums of what fits are made for the largest.
        self._num_workers = max(each.num_workers for each in launch.plan.placements.values())
        self._cluster = cluster_resources()
        check_fits(self._cluster, num_workers=self._num_workers, use_gpu=self._use_gpu)
        self._stamp = launch.stamp
        self._groups: list[GroupRun] = []
        self._kinds: dict[str, str] = {}
        self._failed_groups: Counter[str] = Counter()
        self._handled: set[str] = set()
        self._state: dict[str, TrialState] = {}
        self._looked = -math.inf
        self._num_parameters = {
            name: count_parameters(path) for name, path in launch.prepared.model_paths.items()
        }
        self._trials = in_groups(launch.trials, self._num_parameters)
        self._workers_of = {
            group_kind(trial): launch.plan.placements[trial.model.name].num_workers
            for trial in self._trials.values()
        }
        # On a Ray of our own, without GPUs, it is known here what is busy: evaluators need not hold a CPU to stay.
        share_cpus = not self._use_gpu and not joins_running_ray()
        self._pool = EvaluationPool(launch.bench, self._use_gpu, environment, share_cpus=share_cpus)
        self._stages = launch.stages
        self._measurements: dict[str, list[Measurement]] = {}
        for spec in launch.measurements:
            self._measurements.setdefault("" if spec.trial is None else str(spec.trial.id), []).append(spec)
        self._queue: Any = None
        self._tune: TuneRun | None = None
        self._yielding = Yielding()
        self._turn = False

    def run(self) -> None:
        """Until every trial and every measurement has ended. On Ctrl-C the states of what is trained are kept first."""
        launch = self._launch
        self._start_queue()
        for waits_for in self._measurements:
            if waits_for not in self._trials:
                self._ask_for(waits_for)
        work = {
            key: training_work(trial, self._num_parameters[trial.model.name])[0]
            for key, trial in self._trials.items()
        }
        if self._takes_turns:
            launch.console.say(
                "training and measuring take turns: there is room for one worker group or one evaluator at a time"
            )
        overview = Overview(launch, self._trials, work, self._pool, at_once=self._groups_at_once())
        try:
            while not self._tick(overview):
                self._pool.wait(_TICK_SECONDS)
        except KeyboardInterrupt:
            interrupt_all(self._queue, launch.console)
            raise
        finally:
            for group in self._groups:
                group.abort()
        if self._tune is not None:
            self._tune.join()
        self._launch.stopwatch.over("measuring")

    def _groups_at_once(self) -> int:
        """How many trials can be trained beside each other while nothing is measured."""
        limit = group_limit(
            self._cluster,
            num_workers=self._num_workers,
            use_gpu=self._use_gpu,
            evaluation_waits=False,
        )
        return max(1, limit)

    def _start_queue(self) -> None:
        import ray

        launch = self._launch
        name = f"trials-{self._stamp}"
        tasks = {
            key: trial_task(launch.prepared, trial, launch.storage, launch.script)
            for key, trial in self._trials.items()
        }
        self._is_fresh = {key: task.fresh for key, task in tasks.items()}
        remote = ray.remote(num_cpus=0, resources=HEAD)(TrialQueue)
        self._queue = remote.options(name=name, namespace=NAMESPACE).remote(
            tasks,
            kinds={key: group_kind(trial) for key, trial in self._trials.items()},
            trials_per_group=launch.plan.options.trials_per_group,
        )
        self._watch = Watch(launch, self._trials, self._queue)
        if not tasks:
            return
        self._tune = TuneRun(
            queue=name,
            trial_ids=list(tasks),
            # One ahead: the next is queued when one ends, however late Tune notices.
            at_once=self._groups_at_once() + 1,
            folder=launch.storage.root / "logs" / "tune",
            name=f"tune-{self._stamp}",
        )
        # Those that Tune hands out first. It starts when they have: what it imports would take their workers' cores.
        for key in list(tasks)[: self._groups_at_once()]:
            self._queue.submit.remote(key)

    def _tick(self, overview: Overview) -> bool:
        """Hand out jobs and, every second or so, look at everything else; True when all is done."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._look(overview)
            self._looked = time.monotonic()
        training = self._is_training
        most = self._max_evaluators(training, self._state)
        for job in self._pool.step(most, more=training, max_without_gpu=most):
            self._job_ended(job)
        if not self._is_written:
            # Once for all that failed in this tick: it names every measurement of the sweep.
            write_record(self._record, self._launch.storage)
            self._is_written = True
        return not training and self._pool.done and not self._groups

    @property
    def _is_training(self) -> bool:
        return len(self._handled) < len(self._trials)

    def _look(self, overview: Overview) -> None:
        """See what is new in the queue, show it, and do what it asks for."""
        import ray

        # Before the news, which then has all that Tune handed out.
        tune_has_ended = self._tune is not None and self._tune.has_ended
        news: dict[str, TrialState] = ray.get(self._queue.news.remote())
        self._state.update(news)
        overview.show(self._state, num_groups=len(self._groups), takes_turns=self._takes_turns)
        self._track.see(news)
        for trial_id, trial in news.items():
            if self._watch.has_newer_state(trial_id, trial):
                # Whatever becomes of groups, the trial gets on.
                self._failed_groups[group_kind(self._trials[trial_id])] = 0
            if trial.status in ("finished", "failed") and trial_id not in self._handled:
                self._handled.add(trial_id)
                self._trial_ended(trial_id, trial.error)
        self._watch.see_elsewhere(self._state)
        self._watch.see_drained_nodes()
        self._time(self._state, self._is_training)
        if any(trial.status == "running" for trial in self._state.values()):
            self._yielding.group_works(time.monotonic())
        elif self._pool.num_actors:
            self._yielding.others_hold(time.monotonic())
        begun = any(
            trial.last_point is not None or trial.status in ("elsewhere", "finished", "failed")
            for trial in self._state.values()
        )
        if self._tune is not None and self._tune.ident is None and (begun or not self._is_training):
            self._tune.start()
        self._run_groups(self._is_training)
        if self._tune is not None and self._tune.error is not None:
            raise RayfitError(f"Ray Tune ended early: {self._tune.error}")
        if tune_has_ended:
            self._give_up_what_tune_left(self._state)

    def _time(self, state: Mapping[str, TrialState], training: bool) -> None:
        stopwatch = self._launch.stopwatch
        if any(trial.tries for trial in state.values()):
            stopwatch.over("first_group")
        if any(trial.last_point is not None for trial in state.values()):
            stopwatch.over("first_update")
        if state and not training:
            stopwatch.over("training")

    def _give_up_what_tune_left(self, state: Mapping[str, TrialState]) -> None:
        """Tune ends once all its trials have; one that it never handed out would be waited for without end."""
        import ray

        if any(trial.status == "expected" for trial in state.values()):
            error = "Ray Tune ended before it handed the trial out (see logs/launches in the storage)"
            ray.get(self._queue.give_up.remote(error))

    def _trial_ended(self, trial_id: str, error: str) -> None:
        launch, trial = self._launch, self._trials[trial_id]
        if error:
            launch.trial_errors[trial_id] = error
            before = launch.storage.trial(trial_id)
            failure = TrialFailure(
                id=trial_id,
                error=error,
                failed_at=now(),
                readable=trial.readable,
                declared=trial.declared(),
                edition=1 if before is None else before.edition + self._is_fresh[trial_id],
            )
            write_failure(launch.storage, failure)
            self._tell_failure(trial_id)
            return
        self._track.changed(trial_id)
        self._ask_for(trial_id)

    def _tell_failure(self, key: str | None) -> None:
        """The sweep's record says what failed as soon as it has: the driver may be killed at any moment."""
        self._record = with_failures(self._record, self._launch)
        self._is_written = False
        self._track.changed(key, self._record)

    def _ask_for(self, waits_for: str) -> None:
        """Ask for the measurements of a trial, or of the original models ("")."""
        launch = self._launch
        for spec in self._measurements.get(waits_for, ()):
            for job in jobs_of(self._stages, spec, self._pool.bench, again=launch.plan.options.fresh):
                self._pool.add(job)

    def _job_ended(self, job: Job) -> None:
        if job.part is not None:
            return  # what waits for it fails with its reason, and says so
        trial = job.spec.trial
        key = None if trial is None else trial.id
        if job.status == "failed":
            self._launch.errors[job.key] = f"{job.stage.kind}: {job.error}"
            self._launch.console.say(f"{job.key}  FAILED: {job.error}")
            self._tell_failure(key)
        else:
            self._launch.console.note(f"{job.key}  {job.stage.kind} done")
            self._track.changed(key)

    def _max_evaluators(self, training: bool, state: Mapping[str, TrialState]) -> int:
        need = evaluator_resources(self._use_gpu)
        if training and self._pool.share_cpus and not any(trial.tries for trial in state.values()):
            return 0  # the first group's start has all cores to itself
        if not training:
            return max(1, self._cluster.holds(need))
        # What training leaves free, and one in any case; more would only make training wait.
        group = worker_resources(self._use_gpu).times(self._num_workers)
        return max(1, self._cluster.minus(group.times(len(self._groups))).holds(need))

    def _run_groups(self, training: bool) -> None:
        import ray

        for group in [group for group in self._groups if not group.is_alive()]:
            self._groups.remove(group)
            placements = ray.get(self._queue.group_ended.remote(group.name, group.error, dead_nodes()))
            kind = self._kinds.pop(group.name)
            if group.error:
                from rayfit.sweep.train_v2 import free

                for placement in placements:
                    free(placement)
                self._failed_groups[kind] += 1
                self._launch.console.say(
                    f"worker group {group.name} ended with an error: {group.error.strip().splitlines()[-1]}"
                )
        if not training:
            ray.get(self._queue.set_limit.remote(0))
            return
        for kind, count in self._failed_groups.items():
            if count >= _MAX_FAILED_GROUPS:
                ray.get(self._queue.give_up.remote(f"{count} worker groups ended with errors", kind))
        limit = group_limit(
            self._cluster,
            num_workers=self._num_workers,
            use_gpu=self._use_gpu,
            evaluation_waits=self._pool.waits,
            evaluators_running=self._pool.num_actors,
        )
        self._turn = self._must_yield() or (self._turn and not self._pool.done)
        if self._turn:  # until all is measured that can be: the next group would take its place
            limit = 0
        # Where evaluators take no CPU of Ray's, a group that must make room waits: ending it would cost its start again.
        held = max(limit, len(self._groups)) if self._pool.share_cpus else limit
        for kind in ray.get(self._queue.set_limit.remote(held, limit)):
            self._start_group(kind)

    @property
    def _takes_turns(self) -> bool:
        """Whether there is no room for an evaluator beside one worker group, so that one waits for the other."""
        if self._pool.share_cpus or not self._trials:
            return False
        kinds = set(self._kinds.values()) or self._workers_of.keys()
        group = worker_resources(self._use_gpu).times(max(self._workers_of[kind] for kind in kinds))
        return self._cluster.minus(evaluator_resources(self._use_gpu)).holds(group) == 0

    def _must_yield(self) -> bool:
        """Whether the only group there is room for is to end after its trial, so that what waits is measured."""
        asked = self._pool.waits or self._pool.num_actors
        alone = len(self._groups) == 1 and self._takes_turns
        return bool(alone and asked and self._yielding.is_due(time.monotonic()))

    def _start_group(self, kind: str) -> None:
        import ray

        launch = self._launch
        group_id = f"group-{self._stamp}-{secrets.token_hex(2)}"
        trial = next(trial for trial in self._trials.values() if group_kind(trial) == kind)
        placement = launch.plan.placements[trial.model.name]
        recipe = trial.recipe
        stage, _ = effective_zero_stage(placement.zero_stage, recipe.precision)
        config = GroupConfig(
            group_id=group_id,
            queue=f"trials-{self._stamp}",
            namespace=NAMESPACE,
            storage=launch.storage.root,
            model_path=launch.prepared.model_paths[trial.model.name],
            deepspeed=deepspeed_config(
                zero_stage=stage,
                precision=recipe.precision,
                batch_size=recipe.batch_size,
                num_workers=placement.num_workers,
                num_parameters=self._num_parameters[trial.model.name],
                use_gpu=placement.use_gpu,
                micro_batch=placement.micro_batch,
                offload=placement.offload,
            ),
            checkpoint_activations=placement.activation_checkpointing,
            adapter=recipe.adapter,
            use_gpu=placement.use_gpu,
            num_threads=1,
            num_workers=placement.num_workers,
            max_restarts=MAX_TRIES * (len(self._trials) + 1),
        )
        self._kinds[group_id] = kind
        ray.get(self._queue.open_group.remote(group_id, kind))
        group = GroupRun(
            config,
            train_folder=launch.storage.root / "logs" / "train",
            environment={**self._environment, **self._allocation(placement.use_gpu)},
        )
        group.start()
        self._groups.append(group)
        self._yielding.group_started(time.monotonic())

    def _allocation(self, use_gpu: bool) -> dict[str, str]:
        """What workers' allocators are told; those of a Ray of our own, without GPUs, are told by their fork server."""
        if use_gpu:
            return _ON_GPUS
        return ONE_ARENA if joins_running_ray() else {}
