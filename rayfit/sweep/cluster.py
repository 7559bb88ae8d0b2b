"""Starting a Ray on this machine, or joining the one that runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.plan.precision import AUTO
from rayfit.plan.resources import Resources, check_fits

NAMESPACE = "rayfit"
HEAD = {"node:__internal_head__": 0.001}

# Kept small: rayfit sends little through the object store, and its memory counts.
_OBJECT_STORE_BYTES = 128 << 20

# What Ray must be told before it starts, here and in every worker.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # reports and ends of runs wait for a health check
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",  # a cloud node may take that long to come
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
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


def joins_running_ray() -> bool:
    """Whether a Ray is given to us: as in a submitted job, or by RAY_ADDRESS."""
    return bool(os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_ID"))


def check_cluster_options(given: Options) -> None:
    """On a Ray we join, storage and tracking must be said, for the working folder of a job is gone with the job.

    So must the precision of CPUs, for which this machine's are no measure there.
    """
    if not joins_running_ray():
        cpus = given.num_cpus or len(os.sched_getaffinity(0))
        if not given.use_gpu:
            check_fits(Resources(cpus), num_workers=given.num_workers or 1, use_gpu=False)
        return
    if not Path(given.storage).is_absolute():
        raise RayfitError(
            f"--storage: on a running Ray it must be an absolute path that every node sees; got {given.storage!r}"
        )
    if given.tracking_uri is None:
        raise RayfitError(
            "--tracking-uri: on a running Ray it must be given, as an address that outlives the job"
        )
    if given.precision == AUTO and not given.use_gpu:
        raise RayfitError(
            "--precision: on a running Ray without --use-gpu it must be given, for its nodes' CPUs may be of another kind "
            "than this one; bf16 where they have bf16 instructions (AMX or AVX512-BF16), else fp32"
        )
    if given.num_cpus is not None:
        raise RayfitError("--num-cpus: is for a Ray that is started here; this one is running already")


@contextmanager
def ray_cluster(options: Options) -> Iterator[dict[str, str]]:
    """A running Ray for the block; gives the environment that its processes must be given. A Ray started here ends with it.

    A Ray started here inherits this process's environment, so there is nothing to give.
    """
    environment = {name: os.environ.get(name, value) for name, value in SETTINGS.items()}
    os.environ.update(environment)
    import ray

    if joins_running_ray():
        context = ray.init(namespace=NAMESPACE, log_to_driver=False, logging_level="warning")
        if context.dashboard_url:
            environment["RAY_API_SERVER_ADDRESS"] = f"http://{context.dashboard_url}"
    else:
        port = _free_port()
        # Without this, the end of each Train run spends 12 s looking for the address.
        os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
        environment = {}
        ray.init(
            address="local",
            namespace=NAMESPACE,
            num_cpus=options.num_cpus or len(os.sched_getaffinity(0)),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=port,
            log_to_driver=False,
            logging_level="warning",
        )
    try:
        yield environment
    finally:
        ray.shutdown()


def cluster_resources() -> Resources:
    """What the nodes of the running Ray have in all."""
    import ray

    found = ray.cluster_resources()
    return Resources(found.get("CPU", 0.0), found.get("GPU", 0.0))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
