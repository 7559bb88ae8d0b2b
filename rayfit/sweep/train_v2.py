"""Ray Train as a worker group uses it: without the processes and imports that only other uses of it need.

On two cores every process that Train starts beside the workers costs two seconds before the first update. Import this
module, and with it Ray Train, before threads that use Ray Train or Ray Tune: their imports are circular, and two threads
that begin them at once find halves of modules.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE, get_env_vars_to_propagate
from ray.train.v2._internal.execution.callback import RayTrainCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune.execution import class_cache

from rayfit.sweep.fork_server import SOCKET
from rayfit.sweep.group import group_loop
from rayfit.sweep.trial import GroupConfig

# Train gives its controller and workers those of this process's variables that it knows, and Tune its trials. On a Ray
# of one's own all processes have them, and a worker with an environment of its own is started through three programs.
if SOCKET in os.environ:
    ENV_VARS_TO_PROPAGATE.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.clear()
    class_cache.DEFAULT_ENV_VARS.clear()
else:
    ENV_VARS_TO_PROPAGATE.add("RAY_API_SERVER_ADDRESS")


class GroupTrainer(DataParallelTrainer):
    """A worker group as a run of Train, which starts its workers again when they die.

    Its workers read no datasets of Ray's. Train's cleaner, which asks the dashboard every second whether the controller
    lives, is left out: the queue is told what the group holds, and the driver frees it.
    """

    def __init__(self, config: GroupConfig, *, train_folder: str, environment: dict[str, str]) -> None:
        """`environment`: of the workers. `config.max_restarts` ends a group whose workers die before they ask for work."""
        resources = {"CPU": 1.0, "GPU": 1.0} if config.use_gpu else {"CPU": 1.0}
        super().__init__(
            group_loop,
            train_loop_config={"config": config},
            backend_config=_GroupBackendConfig(),
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.num_workers, use_gpu=config.use_gpu, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                name=config.group_id,
                storage_path=train_folder,
                failure_config=ray.train.FailureConfig(max_failures=config.max_restarts),
                worker_runtime_env={"env_vars": environment},
            ),
        )
        self._told = _TellsWhatItHolds(config.queue, config.namespace, config.group_id)
        self._controller: Any = None

    def _initialize_and_run_controller(self, **given: Any) -> Any:
        """As Train's own, on this node; but who made it can end it."""
        here = {ray._raylet.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()}
        environment = {"env_vars": get_env_vars_to_propagate()}
        remote = ray.remote(num_cpus=0, label_selector=here, runtime_env=environment)(TrainController)
        self._controller = remote.remote(**given)
        ray.get(self._controller.run.remote())
        return ray.get(self._controller.get_result.remote())

    def abort(self) -> None:
        """End the run from another thread: `fit` raises."""
        if self._controller is not None:
            ray.kill(self._controller)

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        left_out = (DatasetsCallback, PlacementGroupCleanerCallback)
        usual = super()._create_default_callbacks()
        return [*(each for each in usual if not isinstance(each, left_out)), self._told]


class _TellsWhatItHolds(WorkerGroupCallback):
    """Tells the queue the placement group of the workers: Ray keeps it while the job lives, whoever made it has died."""

    def __init__(self, queue: str, namespace: str, group_id: str) -> None:
        self._queue, self._namespace, self._group_id = queue, namespace, group_id

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Called by Train's controller when the workers are there, and again when they were started again."""
        placement = worker_group.get_worker_group_state().placement_group_handle.placement_group
        queue = ray.get_actor(self._queue, namespace=self._namespace)
        ray.get(queue.holds.remote(self._group_id, placement.id.hex()))


@dataclass
class _GroupBackendConfig(BackendConfig):
    """Gives every worker what a process group is started from, in its environment; the worker itself starts it.

    Train's own configuration for torch does the same, but imports torch in the driver and in the controller.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """What Train calls."""
        return _GroupBackend


class _GroupBackend(Backend):
    share_cuda_visible_devices = (
        True  # a worker sees its group's GPUs on its node; LOCAL_RANK says which is its own
    )

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:  # noqa: ARG002 - Train gives it
        """Called by Train's controller when the workers are there."""
        address, port = worker_group.execute_single(0, get_address_and_port)
        worker_group.execute(_set_environment, address, port)


def _set_environment(address: str, port: int) -> None:
    context = ray.train.get_context()
    os.environ.update(
        MASTER_ADDR=address,
        MASTER_PORT=str(port),
        RANK=str(context.get_world_rank()),
        WORLD_SIZE=str(context.get_world_size()),
        LOCAL_RANK=str(context.get_local_rank()),
        LOCAL_WORLD_SIZE=str(context.get_local_world_size()),
        NODE_RANK=str(context.get_node_rank()),
    )


def free(placement_id: str) -> None:
    """Give back what a group held that ended without doing so itself."""
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(placement_id)))
