"""Members shared out among threads, PyTorch's or Python's."""

import multiprocessing
import threading

import numpy as np
import pytest
import torch
from fastplast_kernels import workers


@pytest.fixture(params=["torch", "python"])
def team(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(workers, "_torch_team", lambda: None)
    elif workers._torch_team() is None:
        pytest.skip("PyTorch's OpenMP has no call for it here")


def taken(threads: int, members: int) -> tuple[list[int], set[int], int]:
    """Members in the order they were taken, numbers of threads, how many threads of the system there were."""
    members_taken, numbers, identities, lock = [], set(), set(), threading.Lock()

    def work(counter: np.ndarray, thread: int) -> None:
        while True:
            with lock:
                member = int(counter[0])
                counter[0] += 1
                if member >= members:
                    break
                members_taken.append(member)
            numbers.add(thread)
            identities.add(threading.get_ident())
            torch.ones(8).sum()

    workers.run(work, members, threads)
    return members_taken, numbers, len(identities)


@pytest.mark.parametrize(("threads", "members"), [(1, 5), (2, 1), (2, 40), (3, 2), (4, 40)])
def test_each_member_is_taken_once_by_at_most_so_many_threads(team, threads, members):
    members_taken, numbers, identities = taken(threads, members)
    assert members_taken == list(range(members))
    assert max(numbers) < min(threads, members)
    assert len(numbers) == identities


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_any_thread_ends_the_call_and_is_raised(team, failing):
    def work(counter: np.ndarray, thread: int) -> None:
        if thread == failing:
            raise KeyboardInterrupt(thread)

    with pytest.raises(KeyboardInterrupt, match=str(failing)):
        workers.run(work, members=3, threads=2)
    assert taken(2, 4)[0] == [0, 1, 2, 3]


def in_child(queue) -> None:
    queue.put(taken(2, 6)[0])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_fork_of_a_process_that_used_threads_has_its_own(team):
    taken(2, 6)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(queue,), daemon=True)
    child.start()
    assert queue.get(timeout=60) == list(range(6))
    child.join(60)


def test_callers_at_once_each_have_their_members(team):
    found: list[list[int]] = []
    callers = [threading.Thread(target=lambda: found.append(taken(2, 20)[0])) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [list(range(20))] * 4
