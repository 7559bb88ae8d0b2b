"""What MLflow holds, read back without any of the code that wrote it."""

from __future__ import annotations

from typing import Any

EXPERIMENT = "rayfit/data_quantity"


def all_runs(client: Any, experiment: str = EXPERIMENT) -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id]))


def parent_of(client: Any, sweep_id: str, experiment: str = EXPERIMENT) -> Any:
    (run,) = [run for run in all_runs(client, experiment) if run.data.tags.get("rayfit.sweep_id") == sweep_id]
    return run


def children_of(client: Any, parent: Any) -> list[Any]:
    runs = client.search_runs([parent.info.experiment_id])
    return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


def child_of(client: Any, parent: Any, **tags: str) -> Any:
    """The one child with these tags (underscores for the dots of `rayfit.` only)."""
    wanted = {f"rayfit.{name}": value for name, value in tags.items()}
    (run,) = [run for run in children_of(client, parent) if wanted.items() <= run.data.tags.items()]
    return run


def history(client: Any, run: Any) -> dict[str, list[tuple[int, float, int]]]:
    """(step, value, timestamp) of every point of every metric."""
    return {
        key: sorted(
            (point.step, point.value, point.timestamp)
            for point in client.get_metric_history(run.info.run_id, key)
        )
        for key in run.data.metrics
    }


def snapshot(client: Any, experiment: str = EXPERIMENT) -> dict[str, Any]:
    """Everything that a sync may change, by run id."""
    return {
        run.info.run_id: (
            (run.info.status, run.info.start_time, run.info.end_time, run.info.run_name),
            (run.data.params, run.data.tags, history(client, run)),
            sorted(artifacts(client, run)),
        )
        for run in all_runs(client, experiment)
    }


def artifacts(client: Any, run: Any, folder: str | None = None) -> list[str]:
    paths: list[str] = []
    for entry in client.list_artifacts(run.info.run_id, folder):
        paths += artifacts(client, run, entry.path) if entry.is_dir else [entry.path]
    return paths
