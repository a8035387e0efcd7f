"""A group of processes as such; what it does for training is tested where training is."""

from tests import processes

PROGRAM = """
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from cgeartheye.training import distributed

def gloo():
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]

with distributed.process_group("cpu"):
    cycle = [DistributedDataParallel(torch.nn.Linear(2, 2))]
    cycle.append(cycle)
    distributed.gather("something")
    assert gloo()
    del cycle
assert not gloo(), gloo()
"""


def test_no_thread_of_the_group_is_left_to_abort_the_interpreter() -> None:
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    processes.run(["-c", PROGRAM], **alone)
