"""The process that does jobs, as a process."""

import json
import subprocess
import sys

# In the place of a job: a process is forked, as PyTorch's loaders do, while requests are read.
PROGRAM = """
import multiprocessing
from cgeartheye.jobs import runner

def run(self, request):
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join(20)
    self._answer(exitcode=process.exitcode)
    process.kill()

runner.Runner.run = run
runner.main()
"""


def test_a_process_that_a_job_forks_does_not_wait_for_requests() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True}
        for _ in range(2):
            process.stdin.write("{}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == {"exitcode": 0}
        process.stdin.close()
        assert process.wait(20) == 0
