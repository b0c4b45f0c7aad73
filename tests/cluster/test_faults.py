"""What goes wrong while tasks run in a cluster: nothing is lost or done twice, and why is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.book import Book
from tests.cluster.conftest import Ground
from tests.cluster.trouble import LONG, Space, ends_in, once, program, said, told, watched
from tests.local.front_door import wait

from mlstead.engines.base import Engine, Phase, Reason, Retry
from mlstead.errors import NotFoundError, UserError
from mlstead.testing.engine_contract import Make
from mlstead.testing.engine_values import (
    SMALL,
    events_of,
    output,
    run,
    submit,
    task,
    wait_final,
    wait_until,
)

pytestmark = pytest.mark.timeout(600)
AGAIN = Retry(2, (Reason.LOST, Reason.EVICTED, Reason.PREEMPTED))
RESUMING = """\
import os
kept = os.environ["MLSTEAD_CHECKPOINTS"] + "/step"
had = open(kept).read() if os.path.exists(kept) else "nothing"
say(os.environ["MLSTEAD_ATTEMPT"] + " had " + had)
if had == "nothing":
    open(kept, "w").write("step 7")
    say("written")
    wait_at_gate()
print("went on from", had)
"""


@pytest.fixture
def space(ground: Ground) -> Space:
    return Space(ground)


@pytest.fixture
def t() -> str:
    """Give the id of a task: tests share a namespace."""
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def engine(make: Make) -> Engine:
    return make()


# ---- what somebody deletes


def test_a_job_that_is_deleted_while_it_runs_is_lost_and_says_so(
    engine: Engine, space: Space, book: Book, t: str
) -> None:
    submit(engine, program(t, book.program("say('here')\nwait_at_gate()")))
    book.reaches(1)
    wait_until(lambda: engine.status(t).phase is Phase.RUNNING, "t to run")
    space.delete_job(t)
    status = wait_final(engine, t)
    assert said(status) == ("lost", "lost")
    assert "its Job is gone: somebody deleted it" in status.detail
    once(told(engine, t))
    space.is_clean(t)


@pytest.mark.parametrize("looked", [True, False], ids=["seen-before", "never-seen"])
def test_a_job_that_was_deleted_after_its_success_has_succeeded(
    make: Make, space: Space, ground: Ground, looked: bool, t: str
) -> None:
    text = "import os\nprint('words')\n"
    text += "open(os.environ['MLSTEAD_OUTPUTS'] + '/result', 'w').write('42')"
    first, wanted = make(), program(t, text, outputs=("result",))
    submit(first, wanted)
    if looked:
        first.status(t)
    first.close()
    wait_until(lambda: ends_in(ground, t) == ["1/0.json"], "the pod to have ended")
    space.delete_job(t)
    later = make()
    assert said(wait_final(later, t)) == ("succeeded", "")
    submit(later, wanted)  # nothing runs again
    assert not space.jobs(t)
    assert output(later, t) == "words\n"
    assert (Path(later.outputs(t)) / "result").read_text() == "42"
    once(told(later, t))


def test_a_pod_that_is_deleted_is_tried_again_from_its_checkpoint(
    engine: Engine, space: Space, book: Book, t: str
) -> None:
    submit(engine, program(t, book.program(RESUMING), retry=AGAIN))
    book.reaches(2)
    space.cluster.delete(space.pod(t))
    assert wait_final(engine, t).phase is Phase.SUCCEEDED
    assert book.lines == ["1 had nothing", "written", "2 had step 7"]
    assert output(engine, t).endswith("went on from step 7\n")
    first = [it for it in events_of(engine, t) if it.attempt == 1]
    assert (said(first[-1].status), first[-1].retried) == (("lost", "lost"), True)
    once(told(engine, t))


def test_a_pod_that_is_deleted_at_once_and_by_force_is_tried_again(
    engine: Engine, space: Space, book: Book, t: str
) -> None:
    submit(engine, program(t, book.program("say('here')\nwait_at_gate()"), retry=AGAIN))
    book.reaches(1)
    space.cluster.delete(space.pod(t), grace=0)
    book.reaches(2)
    book.open()
    assert wait_final(engine, t).phase is Phase.SUCCEEDED
    assert book.lines == ["here", "here"]
    once(told(engine, t))


def test_a_pod_that_is_deleted_and_may_not_be_tried_again_is_lost(
    engine: Engine, space: Space, book: Book, t: str
) -> None:
    submit(engine, program(t, book.program("say('here')\nwait_at_gate()")))
    book.reaches(1)
    space.cluster.delete(space.pod(t))
    status = wait_final(engine, t)
    assert (said(status), status.detail) == (("lost", "lost"), "its pod was deleted")
    assert book.lines == ["here"]


def evict(space: Space, task_id: str) -> None:
    path = space.pod(task_id)
    body = {
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": path.rpartition("/")[2], "namespace": space.name},
    }  # fmt: skip
    space.cluster.create(f"{path}/eviction", body)


def test_a_pod_that_is_evicted_is_tried_again_where_that_was_asked(
    engine: Engine, space: Space, book: Book, t: str
) -> None:
    again, alone = f"{t}-again", f"{t}-once"
    submit(engine, program(again, book.program(RESUMING), retry=AGAIN))
    submit(engine, program(alone, book.program("say('alone')\nwait_at_gate()")))
    book.reaches(3)
    with watched(engine):
        evict(space, again)
        evict(space, alone)
        status = wait_final(engine, alone)
        assert said(status) == ("failed", "evicted")
        assert "viction" in status.detail
        assert wait_final(engine, again).phase is Phase.SUCCEEDED
    assert sorted(book.lines) == ["1 had nothing", "2 had step 7", "alone", "written"]
    first = [it for it in events_of(engine, again) if it.attempt == 1]
    assert (said(first[-1].status), first[-1].retried) == (("failed", "evicted"), True)


def test_a_more_important_pod_pushes_ours_away(
    engine: Engine, space: Space, book: Book, t: str
) -> None:
    free = _free_cpu(space, "h2")
    name = f"{space.name}-low"
    kind = {"metadata": {"name": name}, "value": -100, "globalDefault": False}
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    space.cluster.create(classes, kind)
    pod = {"nodeSelector": {"kubernetes.io/hostname": "h2"}}
    try:
        native = {"spec": {"template": {"spec": {**pod, "priorityClassName": name}}}}
        ours = {"resources": type(SMALL)(cpu=free, memory=64 << 20)}
        text = book.program("say('here')\nwait_at_gate()")
        submit(engine, program(t, text, native={"kubernetes": native}, **ours))
        book.reaches(1)
        other = {**pod, **_pause(f"{free:.3f}")}
        space.cluster.create(f"{space.api}/pods", {"metadata": {"name": "urgent"}, "spec": other})
        status = wait_final(engine, t)
        assert said(status) == ("failed", "preempted")
        assert "preempt" in status.detail.lower()
    finally:
        space.cluster.delete(f"{space.api}/pods/urgent", grace=0)
        space.cluster.delete(f"{classes}/{name}")


def _free_cpu(space: Space, node: str) -> float:
    """Give half of the cores that no pod of a node has asked for."""
    pods = space.cluster.get("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")["items"]
    asked = 0.0
    for pod in pods:
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            continue
        for one in pod["spec"]["containers"]:
            cpu = one.get("resources", {}).get("requests", {}).get("cpu", "0")
            asked += float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)
    has = float(space.cluster.get(f"/api/v1/nodes/{node}")["status"]["allocatable"]["cpu"])
    return round((has - asked) * 0.7, 3)


def _pause(cpu: str) -> dict[str, Any]:
    """Give the specification of a pod that only takes cores."""
    box = {
        "name": "main", "image": "registry.k8s.io/pause:3.10.1", "resources": {
            "requests": {"cpu": cpu, "memory": "8Mi"}, "limits": {"memory": "8Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
        },
    }  # fmt: skip
    safe = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"containers": [box], "securityContext": safe, "terminationGracePeriodSeconds": 0}


# ---- full disks, floods


def test_a_program_that_fills_its_disk_is_evicted_and_told_why(engine: Engine, t: str) -> None:
    text = """\
import os, time
with open(os.environ["TMPDIR"] + "/large", "wb") as file:
    for _ in range(64):
        file.write(os.urandom(1 << 20))
print("written", flush=True)
time.sleep(300)
"""
    wanted = type(SMALL)(cpu=0.1, memory=64 << 20, disk=16 << 20)
    status = run(engine, program(t, text, resources=wanted))
    assert said(status) == ("failed", "evicted")
    assert "16Mi" in status.detail or "16777216" in status.detail, status.detail
    assert output(engine, t) == "written\n"


def test_a_program_whose_shared_memory_is_full_fails_by_its_own_words(
    engine: Engine, t: str
) -> None:
    text = "open('/dev/shm/x', 'wb').write(bytes(40 << 20))"
    wanted = type(SMALL)(cpu=0.1, memory=128 << 20, shm=16 << 20)
    status = run(engine, program(t, text, resources=wanted))
    assert (said(status), status.exit_code) == (("failed", "error"), 1)
    assert "No space left on device" in output(engine, t)


def test_a_flood_of_binary_output_arrives_whole_and_takes_no_memory_of_ours(
    engine: Engine,
    t: str,
) -> None:
    text = """\
import os, re, sys
block = bytes(range(256)) * 4096
for _ in range(100):
    sys.stdout.buffer.write(block)
sys.stdout.flush()
status = open("/proc/1/status").read()
most = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])
open(os.environ["MLSTEAD_OUTPUTS"] + "/values.json", "w").write('{"most": %d}' % most)
"""
    assert run(engine, program(t, text, values=("most",))).phase is Phase.SUCCEEDED
    block, size = bytes(range(256)) * 4096, 0
    for chunk in engine.logs(t):
        at = size % len(block)
        assert (block * 5)[at : at + len(chunk)] == chunk
        size += len(chunk)
    assert size == 100 * len(block)
    values = json.loads((Path(engine.outputs(t)) / "values.json").read_text())
    assert values["most"] < 32 << 10  # kB: OVERHEAD of the manifests


# ---- who sends is killed

_SENDING = """\
import os, signal, sys
from pathlib import Path
from mlstead.clients.kubernetes import Cluster
from mlstead.engines.base import Place
from mlstead.engines.kubernetes import create
from mlstead.testing.engine_values import submit, task
home, last, name, options, location, endpoint, text = sys.argv[1:]
done = 0
plain = Cluster._send_once
def counted(self, method, path, content, query, *more):
    global done
    if method != "GET" or "/nodes" not in path:
        if done == int(last):
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
    return plain(self, method, path, content, query, *more)
Cluster._send_once = counted
engine = create(Place(Path(home), "cluster", eval(options), location, endpoint))
submit(engine, task(name, "python3", "-c", text))
print("sent", done)
"""


def test_killing_who_sends_at_any_moment_makes_one_job_and_leaves_nothing(
    make: Make, space: Space, ground: Ground, book: Book, tmp_path: Path, t: str
) -> None:
    engine = make()
    engine.facts()
    names: list[str] = []
    while True:
        name = f"{t}-{len(names)}"
        text = book.program(f"say('{name}')")
        words = [
            str(tmp_path), str(len(names)), name, repr(ground.options()),
            f"s3://{ground.bucket}/work", ground.s3.endpoint, text,
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", _SENDING, *words],
            capture_output=True, text=True, env=os.environ, check=False, timeout=LONG,
        )  # fmt: skip
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        names.append(name)
        if len(names) % 2:  # who sends again, and who only looks what there is
            submit(engine, program(name, text))
            continue
        try:
            engine.status(name)
        except NotFoundError:
            submit(engine, program(name, text))
    assert len(names) > 5, names
    for name in [*names, f"{t}-{len(names)}"]:
        assert wait_final(engine, name).phase is Phase.SUCCEEDED
        once(told(engine, name))
        space.is_clean(name)
    assert sorted(book.lines) == sorted([*names, f"{t}-{len(names)}"])


def test_two_engines_at_once_tell_each_event_once(make: Make, book: Book) -> None:
    one, other = make(), make()
    for number in range(6):
        submit(one if number % 2 else other, task(f"t{number}", "echo words"))
    threads = [threading.Thread(target=wait_final, args=(it, f"t{n}"))
               for it in (one, other) for n in range(6)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    found = [list(it.events()) for it in (one, other, make())]
    assert found[0] == found[1] == found[2]
    for number in range(6):
        once([(it.attempt, it.phase) for it in found[0] if it.task_id == f"t{number}"])


# ---- what the cluster refuses


def policy(space: Space, resource: str, group: str) -> tuple[str, str]:
    """Refuse the objects of one kind in this namespace; give what to delete afterwards."""
    base = "/apis/admissionregistration.k8s.io/v1"
    name = f"{space.name}-{resource}"
    rule = {
        "apiGroups": [group], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": [resource],
    }  # fmt: skip
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": space.name}}
    space.cluster.create(f"{base}/validatingadmissionpolicies", {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule], "namespaceSelector": chosen},
            "validations": [{"expression": "false", "message": "not on a Sunday"}],
        },
    })  # fmt: skip
    space.cluster.create(f"{base}/validatingadmissionpolicybindings", {
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    })  # fmt: skip
    return (
        f"{base}/validatingadmissionpolicybindings/{name}",
        f"{base}/validatingadmissionpolicies/{name}",
    )


def test_a_policy_that_refuses_pods_is_named_and_the_task_runs_once_it_allows_them(
    engine: Engine, space: Space, t: str
) -> None:
    made = policy(space, "pods", "")
    try:
        _until_refused(space)
        submit(engine, task(t, "echo at last"))

        def refused() -> bool:
            status = engine.status(t)
            return status.reason is Reason.ADMISSION and "not on a Sunday" in status.detail

        wait(refused, LONG, lambda: f"{engine.status('t')}")
    finally:
        for path in made:
            space.cluster.delete(path)
    assert wait_final(engine, t).phase is Phase.SUCCEEDED


def _until_refused(space: Space) -> None:
    """Wait until the API server acts on a new policy."""
    probe = {"metadata": {"name": "probe"}, "spec": _pause("1m")}

    def refused() -> bool:
        try:
            space.cluster.create(f"{space.api}/pods", probe)
        except UserError as error:
            return "not on a Sunday" in str(error)
        space.cluster.delete(f"{space.api}/pods/probe", grace=0)
        wait(lambda: not space.pods("none") and not _has_probe(space), LONG)
        return False

    wait(refused, LONG)


def _has_probe(space: Space) -> bool:
    items = space.cluster.get(f"{space.api}/pods")["items"]
    return any(it["metadata"]["name"] == "probe" for it in items)
