"""Says in words what a run waits for."""

from mlstead.records.base import Run, State


def waits_for(run: Run) -> str:
    """Say what a run that has not begun waits for ("waits for …"); "" for one that has."""
    if run.state not in (State.QUEUED, State.PENDING):
        return ""
    if run.detail:
        return run.detail if run.detail.startswith("waits") else f"waits: {run.detail}"
    if run.state is State.PENDING:
        return "waits for its copy in MLflow" if not run.parent else "waits for its turn"
    asked = run.request.get("resources") or {}
    if not asked:
        return "waits for its turn"
    parts = [f"cpu {asked['cpu']:g}", f"memory {asked['memory'] >> 20} MiB"]
    if asked["gpu"]:
        parts.append(f"gpu {asked['gpu']}")
    return f"waits for its turn: {', '.join(parts)} asked for, others hold it"
