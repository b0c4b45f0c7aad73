"""Says in words what a run waits for."""

from mlstead.records.base import Run, State


def waits_for(run: Run) -> str:
    """Say what a run that has not begun waits for; "" for one that has."""
    if run.state not in (State.QUEUED, State.PENDING):
        return ""
    if run.detail:
        return f"({run.detail})"
    if run.state is State.PENDING:
        return "for its copy in MLflow" if not run.parent else "for its turn"
    asked = run.request.get("resources") or {}
    if not asked:
        return "for its turn"
    parts = [f"cpu {asked['cpu']:g}", f"memory {asked['memory'] >> 20} MiB"]
    if asked["gpu"]:
        parts.append(f"gpu {asked['gpu']}")
    return f"for its turn: {', '.join(parts)} asked for, others hold it"
