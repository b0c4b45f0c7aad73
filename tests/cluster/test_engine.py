"""The engine contract on a real cluster: the same promises as on a laptop."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlstead.engines.base import Engine, Phase
from mlstead.testing.engine_contract import EngineContract, Make
from mlstead.testing.engine_programs import _DAEMON, ProgramsContract
from mlstead.testing.engine_values import run, submit, task, wait_final, wait_phase

pytestmark = pytest.mark.timeout(900)


class TestKubernetes(EngineContract):
    @pytest.fixture
    def make(self, make: Make) -> Make:
        return make


class TestKubernetesWithPrograms(ProgramsContract):
    python = "/usr/bin/python3"
    master = r"t-[0-9a-f]{6}-0\.t-[0-9a-f]{6}"

    @pytest.fixture
    def make(self, make: Make) -> Make:
        return make

    # A pod's processes are its own: what is left of them is seen by the pod's end.

    def test_a_program_that_ignores_term_is_killed_with_its_children(
        self, engine: Engine, tmp_path: Path
    ) -> None:
        loop = "while true; do sleep 1; done"
        submit(engine, task("t", f"trap : TERM; sh -c 'trap : TERM; {loop}' & {loop}"))
        wait_phase(engine, "t", Phase.RUNNING)
        engine.cancel("t", 0.2)
        assert wait_final(engine, "t").phase is Phase.CANCELLED

    def test_what_a_program_leaves_behind_is_ended(self, engine: Engine, tmp_path: Path) -> None:
        daemon = task("t", self.python, "-c", _DAEMON, "/tmp/pid")
        assert run(engine, daemon).phase is Phase.SUCCEEDED
