"""Success is a message received; every other end has a name."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from exportkit.errors import LoadError, RunError
from exportkit.worker import Host, Limits

sys.path.insert(0, str(Path(__file__).parent))
LIMITS = Limits(20.0)


@pytest.fixture(scope="module")
def server():
    with Host.start(()) as host:
        yield host


def run(server, name, *args, limits=LIMITS):
    return server.run(f"worker_tasks:{name}", *args, limits=limits, stage="the test")


def test_an_answer_and_its_progress_arrive(server):
    told = []
    assert server.run("worker_tasks:add", 2, 3, limits=LIMITS, stage="the test", on_event=told.append) == 5
    assert told == ["adding"]


@pytest.mark.parametrize("name", ["chatter", "linger", "replace_functions"])
def test_chatter_threads_grandchildren_and_patches_do_not_hurt_an_answer(server, name):
    assert run(server, name) == "answered"


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("leave", (0,), "exited with code 0 in the test"),
        ("leave", (3,), "exited with code 3"),
        ("leave_politely", (0,), "SystemExit: 0"),
        ("crash", (), "SIGSEGV (segmentation fault)"),
        ("close_everything", (), "before it gave an answer"),
        ("divide", (), "ZeroDivisionError"),
    ],
)
def test_no_other_end_passes_for_an_answer(server, name, args, words):
    with pytest.raises(RunError) as caught:
        run(server, name, *args)
    assert words in str(caught.value)


def test_the_line_of_an_exception_and_of_a_hang_is_named(server):
    with pytest.raises(RunError) as raised:
        run(server, "divide")
    assert raised.value.where.startswith("worker_tasks.py:")
    assert "ZeroDivisionError" in raised.value.details
    with pytest.raises(RunError, match="did not finish the test within 1 s") as hung:
        run(server, "hang", limits=Limits(1.0))
    assert hung.value.where.startswith("worker_tasks.py:")


def test_errors_of_ours_come_back_whole(server):
    with pytest.raises(LoadError) as caught:
        run(server, "refuse")
    assert (caught.value.what, caught.value.where, caught.value.todo) == ("no", "net.py:3", "do")


def test_memory_is_limited(server):
    with pytest.raises(RunError, match=r"ran out of memory in the test \(limit 1.0 GiB\)"):
        run(server, "allocate", limits=Limits(20.0, 1 << 30))


def test_children_of_a_holder_do_not_see_each_other(server):
    told, holder = server.hold("worker_tasks:hold", 1, limits=LIMITS, stage="holding")
    with holder:
        assert told == "holds 1"
        assert run(holder, "mutate", 2) == 2
        assert run(holder, "look") == 1


def test_tasks_of_several_threads_run_at_once(server):
    answers = []
    threads = [threading.Thread(target=lambda n=n: answers.append(run(server, "add", n, n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [2 * n for n in range(8)]


def test_nothing_outlives_a_killed_parent(tmp_path):
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from exportkit.worker import Host, Limits
server = Host.start(())
_, holder = server.hold("worker_tasks:hold", 1, limits=Limits(20), stage="holding")
pid = server.run("worker_tasks:pid", limits=Limits(20), stage="pid")
task = server.submit("worker_tasks:hang", limits=Limits(60), stage="hanging")
print(os.getpid(), flush=True)
task.result()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    parent.stdout.readline()
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) >= 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_a_script_without_a_main_guard_can_start_a_server(tmp_path):
    script = tmp_path / "script.py"
    tasks = str(Path(__file__).parent)
    script.write_text(
        f"import sys; sys.path.insert(0, {tasks!r})\n"
        "from exportkit.worker import Host, Limits\n"
        "with Host.start(()) as server:\n"
        "    print(server.run('worker_tasks:add', 1, 2, limits=Limits(20), stage='adding'))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "3\n"
