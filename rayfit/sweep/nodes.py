"""The nodes of this Ray that are gone, or will be soon."""

from __future__ import annotations


def dead_nodes() -> tuple[str, ...]:
    """The ids of the nodes that this Ray has lost."""
    import ray

    return tuple(node["NodeID"] for node in ray.nodes() if not node["Alive"])


def draining_nodes() -> tuple[str, ...]:
    """The ids of the nodes that are to go soon: a spot instance that is taken back, an autoscaler's end."""
    import ray

    # The only way to know that Ray has, and the one that its own Train takes.
    return tuple(ray._private.state.state.get_draining_nodes())
