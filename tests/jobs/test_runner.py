"""The process that does jobs, as a process."""

import json
import os
from pathlib import Path

from tests import processes

# In the place of a job: a process is forked, as PyTorch's loaders do, while requests are read.
PROGRAM = """
import multiprocessing, os, sys
from cgeartheye.jobs import runner

for standard, path in enumerate(sys.argv[1:]):
    os.dup2(os.open(path, (os.O_RDONLY, os.O_WRONLY)[standard]), standard)
sys.stdin = open(0, closefd=False)  # as in a process that was not forked

def run(self, request):
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join(20)
    self._answer(exitcode=process.exitcode)
    process.kill()

runner.Runner.run = run
runner.main()
"""


def test_a_process_that_a_job_forks_does_not_wait_for_requests(tmp_path: Path) -> None:
    pipes = tmp_path / "requests", tmp_path / "answers"
    for pipe in pipes:
        os.mkfifo(pipe)
    process = processes.start(["-c", PROGRAM, *pipes])
    try:
        with pipes[0].open("w") as requests, pipes[1].open() as answers:
            assert json.loads(answers.readline()) == {"ready": True}
            for _ in range(2):
                requests.write("{}\n")
                requests.flush()
                assert json.loads(answers.readline()) == {"exitcode": 0}
        process.join(20)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
