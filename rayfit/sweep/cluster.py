"""Starting a Ray on this machine, or joining the one that runs."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rayfit.config import Options
from rayfit.devices import usable_cpus
from rayfit.errors import RayfitError
from rayfit.plan.cards import seem_there
from rayfit.plan.precision import AUTO
from rayfit.plan.resources import Resources, check_fits
from rayfit.sweep.fork_server import ForkServer

NAMESPACE = "rayfit"
HEAD = {"node:__internal_head__": 0.001}

# Kept small: rayfit sends little through the object store, and its memory counts.
_OBJECT_STORE_BYTES = 128 << 20

# What Ray must be told before it starts, here and in every worker.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",  # ends of runs wait for a health check; each takes 4 ms
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",  # a cloud node may take that long to come
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process for each group, of whose warnings nothing is made
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}


# Of a Ray of our own: nobody looks at its metrics and its lists of tasks, which every process of it sends once a second.
_SETTINGS_OF_OUR_OWN = {"RAY_enable_metrics_collection": "0", "RAY_task_events_report_interval_ms": "0"}

_SETTINGS_OF_FORKS = {
    # A worker that is started before it is asked for has no job, and cannot be forked with the others.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # The first of them waits until all is imported.
    "RAY_worker_register_timeout_seconds": "600",
}


def joins_running_ray() -> bool:
    """Whether a Ray is given to us: as in a submitted job, or by RAY_ADDRESS."""
    return bool(os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_ID"))


def check_cluster_options(given: Options) -> None:
    """Raises RayfitError for what cannot be, before anything is written.

    On a Ray we join, storage and tracking must be said, for the working folder of a job is gone with the job.
    """
    if not joins_running_ray():
        check_cpus(replace(given, use_gpu=seem_there() if given.use_gpu is None else given.use_gpu))
        return
    if not Path(given.storage).is_absolute():
        raise RayfitError(
            f"--storage: on a running Ray it must be an absolute path that every node sees; got {given.storage!r}"
        )
    if given.tracking_uri is None:
        raise RayfitError(
            "--tracking-uri: on a running Ray it must be given, as an address that outlives the job"
        )
    if given.num_cpus is not None:
        raise RayfitError("--num-cpus: is for a Ray that is started here; this one is running already")


def check_cpus(options: Options) -> None:
    """Where training is on CPUs: they must be enough here, and on a Ray we join the precision must be said.

    This machine's CPUs are no measure there.
    """
    if options.use_gpu:
        return
    if not joins_running_ray():
        cpus = options.num_cpus or usable_cpus()
        check_fits(Resources(cpus), num_workers=options.num_workers or 1, use_gpu=False)
    elif options.precision == AUTO:
        raise RayfitError(
            "--precision: on a running Ray without GPUs it must be given, for its nodes' CPUs may be of another kind "
            "than this one; bf16 where they have bf16 instructions (AMX or AVX512-BF16), else fp32 (a Ray whose GPUs "
            "are still to come is told --use-gpu)"
        )


class StartingRay:
    """A running Ray for the block that this is the context of, from when it is asked for: in a thread, for it takes seconds.

    What Ray, Tune and Train print in this process from then on goes to `log`; the console keeps the terminal.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._redirected = ExitStack()
        self._environment: Future[dict[str, str]] = Future()
        self._thread: threading.Thread | None = None
        self._fork_server: ForkServer | None = None
        self._ends = threading.Event()

    def __enter__(self) -> StartingRay:
        return self

    def __exit__(self, *_: object) -> None:
        with self._redirected:
            self.end()
            if self._thread is not None:
                self._thread.join()  # a Ray that is half started must be ended too
            if self._fork_server is not None:
                self._fork_server.close()

    def begin(self, options: Options) -> None:
        """Start it now; asking again changes nothing."""
        if self._thread is not None:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        # Never closed: loggers that were set up meanwhile keep writing to it until the process ends.
        stream = self._log.open("a", buffering=1)
        self._redirected.enter_context(contextlib.redirect_stdout(stream))
        self._redirected.enter_context(contextlib.redirect_stderr(stream))
        if sys.platform == "linux" and not (options.use_gpu or joins_running_ray()):
            self._fork_server = ForkServer(stream)
        self._thread = threading.Thread(target=self._hold, args=(options,), name="ray")
        self._thread.start()

    def _hold(self, options: Options) -> None:
        # The whole life of this Ray in one thread: its processes are ended with the thread that started them.
        try:
            with ray_cluster(options, self._fork_server) as environment:
                self._environment.set_result(environment)
                self._ends.wait()
        except BaseException as error:
            if self._environment.done():
                raise
            self._environment.set_exception(error)

    def end(self) -> None:
        """Begin to end it, in its thread: nothing needs it any more. Leaving the block waits until it has ended."""
        self._ends.set()

    def ready(self) -> dict[str, str]:
        """The environment that Ray's processes must be given, once it runs; it must have been begun.

        Raises what starting it raised.
        """
        return self._environment.result()


@contextmanager
def ray_cluster(options: Options, fork_server: ForkServer | None = None) -> Iterator[dict[str, str]]:
    """A running Ray for the block; gives the environment that its processes must be given. A Ray started here ends with it.

    A Ray started here inherits this process's environment, so there is nothing to give.
    """
    settings = dict(SETTINGS)
    if not joins_running_ray():
        settings |= _SETTINGS_OF_OUR_OWN
    if fork_server is not None:
        settings |= _SETTINGS_OF_FORKS
    environment = {name: os.environ.get(name, value) for name, value in settings.items()}
    os.environ.update(environment)
    import ray
    import ray.tune

    # Here, before there are threads that use it: see there.
    import rayfit.sweep.train_v2  # noqa: F401

    if joins_running_ray():
        context = ray.init(namespace=NAMESPACE, log_to_driver=False, logging_level="warning")
        if context.dashboard_url:
            address = environment["RAY_API_SERVER_ADDRESS"] = f"http://{context.dashboard_url}"
            os.environ["RAY_API_SERVER_ADDRESS"] = address
    else:
        environment = {}
        hidden = nullcontext() if options.use_gpu else _hidden_gpus()
        with hidden, _few_processes(fork_server):
            ray.init(
                address="local",
                namespace=NAMESPACE,
                num_cpus=options.num_cpus or usable_cpus(),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,  # nobody looks at it, and it is a dozen processes
                log_to_driver=False,
                logging_level="warning",
            )
        if fork_server is not None:
            (raylet,) = ray._private.worker._global_node.all_processes["raylet"]
            fork_server.prepare(raylet.process.pid, ray.get_runtime_context().get_job_id())
    try:
        yield environment
    finally:
        ray.shutdown()


@contextmanager
def _hidden_gpus() -> Iterator[None]:
    """No process that is started in the block sees a GPU: what finds one that it was not given takes it."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    os.environ[name] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _few_processes(fork_server: ForkServer | None) -> Iterator[None]:
    """A Ray that is started in the block has no monitors of logs and of scaling, and no server for its dashboard.

    Its workers are forked by the fork server, if there is one. `ray.init` passes on none of these settings of Ray's own,
    and starts the server, and waits for it, also where no dashboard is asked for.
    """
    from ray._private import parameter, services

    usual, usual_server = parameter.RayParams, services.start_api_server
    settings: dict[str, Any] = {"include_log_monitor": False, "no_monitor": True}
    if fork_server is not None:
        settings["worker_path"] = fork_server.worker_path
    parameter.RayParams = partial(usual, **settings)
    services.start_api_server = lambda *_, **__: (None, None)  # as where it could not be started
    try:
        yield
    finally:
        parameter.RayParams, services.start_api_server = usual, usual_server


def cluster_resources() -> Resources:
    """What the nodes of the running Ray have in all."""
    import ray

    found = ray.cluster_resources()
    return Resources(found.get("CPU", 0.0), found.get("GPU", 0.0))
