"""Runs our Ansible roles on machines of a site, and tells what each task did."""

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ansible_runner

from mlstead.clients.ansible_events import Event, Listener, Outcome
from mlstead.clients.ansible_play import INVENTORY, Machine, Play, write
from mlstead.errors import UserError

__all__ = ["Event", "Machine", "Outcome", "Play", "run_play"]


def run_play(
    folder: Path,
    play: Play,
    *,
    told: Callable[[Event], None] = lambda event: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run one role on some machines side by side.

    Ctrl-C and SIGTERM end Ansible first, and then do what they do.

    Args:
        folder: our Ansible folder: roles, library, action_plugins.
        play: what and where.
        told: called for every event.
        cancelled: asked often; True ends the run.

    Raises:
        UserError: Ansible is not installed.
    """
    if _program() is None:
        raise UserError("ansible-playbook is not there", hint="pip install 'mlstead[site]'")
    with _ending_first(cancelled) as asked_to_end:
        private = Path(tempfile.mkdtemp(prefix="mlstead-apply-", dir=_memory()))
        try:
            write(private, play)
            listener = Listener(told)
            done = ansible_runner.interface.run(
                private_data_dir=str(private),
                playbook=str(private / "project" / "play.yml"),
                inventory=str(private / INVENTORY),
                cmdline="--check" if play.check else None,
                quiet=True,
                event_handler=listener.handle,
                cancel_callback=asked_to_end,
                envvars=_environment(folder, private),
                suppress_env_files=True,
            )
            return listener.outcome(str(done.status), int(done.rc or 0))
        finally:
            shutil.rmtree(private, ignore_errors=True)


@contextmanager
def _ending_first(cancelled: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Hold signals back while Ansible runs: in its own session, it would not notice our end."""
    if threading.current_thread() is not threading.main_thread():
        yield cancelled
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda it, _: came.append(it))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(came) or cancelled()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _program() -> str | None:
    beside = Path(sys.executable).parent / "ansible-playbook"
    return str(beside) if beside.exists() else shutil.which("ansible-playbook")


def _memory() -> str | None:
    """Give a folder in memory that is ours alone, where there is one: secrets pass through it."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm"
    return folder if os.access(folder, os.W_OK) else None


def _environment(folder: Path, private: Path) -> dict[str, str]:
    path = os.environ.get("PATH", "")
    return {
        "PATH": f"{Path(_program() or '').parent}{os.pathsep}{path}",
        "ANSIBLE_ROLES_PATH": str(folder / "roles"),
        "ANSIBLE_LIBRARY": str(folder / "library"),
        "ANSIBLE_ACTION_PLUGINS": str(folder / "action_plugins"),
        "ANSIBLE_CONFIG": str(private / "ansible.cfg"),
        "ANSIBLE_HOME": str(private / "home"),
        "ANSIBLE_LOCAL_TEMP": str(private / "tmp"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_FORKS": "20",
        "ANSIBLE_HOST_KEY_CHECKING": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INJECT_FACT_VARS": "0",
        # Its own arguments compress what is sent: programs and images hardly get smaller by it.
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_SSH_RETRIES": "2",
        "ANSIBLE_TIMEOUT": "15",
        "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "0",
        "LC_ALL": "C.UTF-8",
    }
