"""The scripts for Slurm, with programs in its place: a signal becomes a checkpoint and a requeue."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "slurm"
FASTPLAST = """#!/bin/bash
echo "$@" > "$HOME/said"
trap 'exit 130' USR1
for i in $(seq 100); do [ -e "$HOME/end" ] && exit $(cat "$HOME/end"); /bin/sleep 0.05; done
"""


@pytest.fixture
def home(tmp_path):
    """A home with programs that stand for Slurm's, Ray's and fastplast."""
    (tmp_path / "bin").mkdir()
    for name, text in {
        "fastplast": FASTPLAST,
        "scontrol": '#!/bin/bash\nif [ "$1" = show ]; then echo node-1; else echo "$@" > "$HOME/requeued"; fi\n',
        "srun": "#!/bin/bash\n",
        "sleep": "#!/bin/bash\nexec /bin/sleep 0.01\n",
    }.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def started(home, script):
    variables = {"HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "4"}
    variables |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "9", "SLURM_ARRAY_JOB_ID": "77"}
    variables |= {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node-1", "SLURM_NNODES": "1", "SLURM_CPUS_ON_NODE": "4"}
    process = subprocess.Popen(["bash", str(SCRIPTS / script), "out", "--seeds", "2"], env=variables)
    while not (home / "said").exists():
        time.sleep(0.01)
    time.sleep(0.1)  # for the traps of both
    return process


@pytest.mark.parametrize(("script", "job"), [("array.sbatch", "77_3"), ("ray.sbatch", "77")])
def test_a_signal_becomes_a_checkpoint_and_a_requeue(home, script, job):
    process = started(home, script)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 0
    assert (home / "requeued").read_text() == f"requeue {job}\n"


@pytest.mark.parametrize(("script", "status", "want"), [("array.sbatch", 0, 0), ("array.sbatch", 1, 1),
                                                        ("array.sbatch", 75, 0), ("ray.sbatch", 1, 1)])  # fmt: skip
def test_the_status_says_whether_the_job_is_tried_again(home, script, status, want):
    process = started(home, script)
    (home / "end").write_text(str(status))
    assert process.wait(30) == want
    assert (home / "requeued").exists() == (status == 75)


def test_a_job_of_an_array_trains_its_slice_on_its_cores(home):
    process = started(home, "array.sbatch")
    (home / "end").write_text("0")
    process.wait(30)
    assert (home / "said").read_text().split() == (
        ["sweep", "--seeds", "2", "--out", "out", "--quiet", "--threads", "4", "--shard", "3/9"]
    )
