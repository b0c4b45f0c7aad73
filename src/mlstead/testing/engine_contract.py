"""What every engine must do, as tests: subclass ``EngineContract`` and give ``make``."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mlstead.engines.base import Engine, Phase, Reason, Retry, Secret, TaskEvent
from mlstead.errors import ConflictError, NotFoundError, UserError
from mlstead.testing.engine_values import (
    events_of,
    output,
    run,
    submit,
    task,
    wait_final,
    wait_phase,
    wait_until,
)

Make = Callable[[], Engine]
QUICK = 0.3


class EngineContract:
    """One test per promise of ``engines/base.py`` that needs no real program.

    A subclass gives the fixture ``make``: each call gives a new engine object, all of one home,
    which is a new one for each test.
    """

    @pytest.fixture
    def make(self) -> Iterator[Make]:
        raise NotImplementedError

    @pytest.fixture
    def engine(self, make: Make) -> Engine:
        return make()

    # ---- before anything is sent

    def test_prepare_touches_nothing(self, engine: Engine) -> None:
        engine.prepare(task("t", "true"), engine.facts())
        with pytest.raises(NotFoundError):
            engine.status("t")
        assert list(engine.events()) == []

    def test_prepare_of_the_same_task_gives_the_same_request(self, engine: Engine) -> None:
        facts, one = engine.facts(), task("t", "echo", "x", params={"lr": 0.1})
        assert engine.prepare(one, facts) == engine.prepare(one, facts)

    def test_an_empty_command_is_refused(self, engine: Engine) -> None:
        with pytest.raises(UserError, match="command"):
            engine.prepare(task("t"), engine.facts())

    def test_an_unsupported_field_is_refused_by_name(self, engine: Engine) -> None:
        asked = task("t", "true", native={"other": {"x": 1}})
        with pytest.raises(UserError, match=f"native: not supported by engine {engine.name}"):
            engine.prepare(asked, engine.facts())

    # ---- ends

    def test_exit_0_is_success(self, engine: Engine) -> None:
        status = run(engine, task("t", "true"))
        assert (status.phase, status.reason, status.exit_code) == (Phase.SUCCEEDED, None, 0)

    def test_another_exit_code_is_a_failure_that_names_it(self, engine: Engine) -> None:
        status = run(engine, task("t", "exit 7"))
        assert (status.phase, status.reason, status.exit_code) == (Phase.FAILED, Reason.ERROR, 7)

    def test_a_command_that_is_not_found_fails_with_127(self, engine: Engine) -> None:
        status = run(engine, task("t", "no-such-command-anywhere"))
        assert (status.phase, status.reason, status.exit_code) == (Phase.FAILED, Reason.ERROR, 127)

    def test_a_task_over_its_time_ends_as_timeout(self, engine: Engine) -> None:
        status = run(engine, task("t", "sleep", "600", timeout=QUICK))
        assert (status.phase, status.reason) == (Phase.FAILED, Reason.TIMEOUT)

    def test_a_missing_output_fails_the_task(self, engine: Engine) -> None:
        status = run(engine, task("t", "true", outputs=("model",)))
        assert (status.phase, status.reason) == (Phase.FAILED, Reason.ERROR)
        assert "model" in status.detail

    def test_times_are_in_order(self, engine: Engine) -> None:
        status = run(engine, task("t", "true"))
        assert status.submitted is not None and status.started is not None
        assert status.ended is not None and status.started <= status.ended

    # ---- submitting

    def test_submitting_twice_runs_once(self, make: Make) -> None:
        first, second = make(), make()
        for engine in (first, second, first):
            submit(engine, task("t", "echo", "hello"))
        wait_final(first, "t")
        submit(second, task("t", "echo", "hello"))
        assert output(second, "t") == "hello\n"
        assert [event.phase for event in events_of(first, "t")].count(Phase.RUNNING) == 1

    def test_another_request_under_the_same_id_is_a_conflict(self, engine: Engine) -> None:
        submit(engine, task("t", "echo", "hello"))
        with pytest.raises(ConflictError):
            submit(engine, task("t", "echo", "other"))
        wait_final(engine, "t")
        assert output(engine, "t") == "hello\n"

    def test_another_engine_object_sees_the_task(self, make: Make) -> None:
        run(make(), task("t", "echo", "hello"))
        other = make()
        assert other.status("t").phase is Phase.SUCCEEDED
        assert output(other, "t") == "hello\n"

    def test_an_unknown_task_is_not_found(self, engine: Engine) -> None:
        for ask in (engine.status, engine.logs, engine.outputs, engine.cancel, engine.signal_stop):
            for name in ("nobody", "../../../etc", ""):
                with pytest.raises(NotFoundError):
                    ask(name)

    def test_many_tasks_at_once_all_end(self, engine: Engine) -> None:
        submit(engine, *(task(f"t{number}", "true") for number in range(20)))
        for number in range(20):
            assert wait_final(engine, f"t{number}").phase is Phase.SUCCEEDED

    # ---- stopping

    def test_cancelling_twice_changes_nothing(self, engine: Engine) -> None:
        submit(engine, task("t", "sleep", "600"))
        wait_phase(engine, "t", Phase.RUNNING)
        engine.cancel("t", 0.0)
        engine.cancel("t", 0.0)
        assert wait_final(engine, "t").phase is Phase.CANCELLED
        engine.cancel("t")
        assert engine.status("t").phase is Phase.CANCELLED
        assert [event.phase for event in events_of(engine, "t")].count(Phase.CANCELLED) == 1

    def test_cancelling_right_after_submitting_ends_it(self, make: Make) -> None:
        submit(make(), task("t", "sleep", "600"))
        make().cancel("t", 0.0)
        assert wait_final(make(), "t").phase is Phase.CANCELLED

    def test_cancelling_what_has_ended_leaves_its_state(self, engine: Engine) -> None:
        run(engine, task("t", "true"))
        engine.cancel("t")
        assert engine.status("t").phase is Phase.SUCCEEDED

    def test_a_cancelled_task_is_not_tried_again(self, engine: Engine) -> None:
        submit(engine, task("t", "sleep", "600", retry=Retry(5, tuple(Reason))))
        wait_phase(engine, "t", Phase.RUNNING)
        engine.cancel("t", 0.0)
        status = wait_final(engine, "t")
        assert (status.phase, status.attempt) == (Phase.CANCELLED, 1)

    # ---- trying again

    def test_a_failure_is_tried_again_as_often_as_asked(self, engine: Engine) -> None:
        status = run(engine, task("t", "exit 3", retry=Retry(2)))
        assert (status.phase, status.attempt, status.exit_code) == (Phase.FAILED, 3, 3)
        ends = [event for event in events_of(engine, "t") if event.phase is Phase.FAILED]
        assert [(event.attempt, event.retried) for event in ends] == [
            (1, True), (2, True), (3, False),
        ]  # fmt: skip

    def test_only_the_named_reasons_are_tried_again(self, engine: Engine) -> None:
        status = run(engine, task("t", "exit 3", retry=Retry(2, (Reason.OOM, Reason.LOST))))
        assert (status.phase, status.attempt) == (Phase.FAILED, 1)

    def test_a_timeout_is_tried_again_when_named(self, engine: Engine) -> None:
        retry = Retry(1, (Reason.TIMEOUT,))
        status = run(engine, task("t", "sleep", "600", timeout=QUICK, retry=retry))
        assert (status.reason, status.attempt) == (Reason.TIMEOUT, 2)

    # ---- what it said

    def test_logs_outlive_the_task(self, make: Make) -> None:
        run(make(), task("t", "echo one; echo two"))
        assert output(make(), "t") == "one\ntwo\n"
        assert output(make(), "t", offset=4) == "two\n"
        assert output(make(), "t", follow=True) == "one\ntwo\n"

    def test_logs_of_all_attempts_come_in_order(self, engine: Engine) -> None:
        run(engine, task("t", "echo hello; exit 1", retry=Retry(1)))
        assert output(engine, "t") == "hello\n--- attempt 2 ---\nhello\n"

    # ---- events

    def test_events_tell_each_phase_in_order(self, engine: Engine) -> None:
        run(engine, task("t", "true"))
        assert [event.phase for event in events_of(engine, "t")] == [
            Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED,
        ]  # fmt: skip

    def test_an_event_holds_the_status_it_tells_of(self, engine: Engine) -> None:
        run(engine, task("t", "exit 4"))
        last = events_of(engine, "t")[-1]
        assert replace(engine.status("t"), ended=0.0) == replace(last.status, ended=0.0)

    def test_events_go_on_from_any_cursor(self, make: Make) -> None:
        engine = make()
        for number in range(4):
            run(engine, task(f"t{number}", "true"))
            events_of(engine, f"t{number}")
        everything = list(engine.events())
        for place, event in enumerate(everything):
            assert _keys(list(make().events(event.cursor))) == _keys(everything[place + 1 :])
        assert list(engine.events(everything[-1].cursor)) == []

    def test_wait_returns_when_there_are_events(self, make: Make) -> None:
        engine = make()
        run(engine, task("t", "true"))
        cursor = events_of(engine, "t")[-1].cursor
        submit(make(), task("u", "true"))
        engine.wait(cursor, 60.0)
        assert any(event.task_id == "u" for event in engine.events(cursor))

    def test_wait_without_events_ends_after_its_time(self, engine: Engine) -> None:
        engine.wait("", 0.05)
        assert list(engine.events()) == []

    # ---- secrets and forgetting

    def test_a_secret_without_a_value_is_refused(self, engine: Engine) -> None:
        asked = task("t", "true", secrets=(Secret("token", env="TOKEN"),))
        with pytest.raises(UserError, match="token"):
            submit(engine, asked)
        with pytest.raises(NotFoundError):
            engine.status("t")

    def test_a_forgotten_task_is_gone(self, make: Make) -> None:
        engine = make()
        run(engine, task("t", "true"))
        events_of(engine, "t")
        engine.forget("t")
        engine.forget("t")
        with pytest.raises(NotFoundError):
            make().status("t")

    def test_a_running_task_is_not_forgotten(self, engine: Engine) -> None:
        submit(engine, task("t", "sleep", "600"))
        with pytest.raises(ConflictError):
            engine.forget("t")
        engine.cancel("t", 0.0)
        wait_final(engine, "t")

    def test_signal_stop_asks_a_running_task(self, engine: Engine) -> None:
        submit(engine, task("t", "sleep", "600"))
        wait_phase(engine, "t", Phase.RUNNING)
        engine.signal_stop("t")
        engine.signal_stop("t")
        engine.cancel("t", 0.0)
        wait_until(lambda: engine.status("t").phase.final, "the end")


def _keys(events: list[TaskEvent]) -> list[tuple[str, int, Phase]]:
    return [(event.task_id, event.attempt, event.phase) for event in events]
