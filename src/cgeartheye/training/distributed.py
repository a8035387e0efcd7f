"""Several processes as one, through torchrun; every function also works in a single process."""

import gc
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from cgeartheye.utils.errors import UserError


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did; yield the device of this one.

    Args:
        device: `auto` takes CUDA, then MPS, then the CPU; `cuda` takes the card of the local rank.

    Raises:
        UserError: the device does not exist.
    """
    local = local_device(device)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield local
        return
    if local.type == "cuda":
        torch.cuda.set_device(local)
    backend = "nccl" if local.type == "cuda" else "gloo"
    # Another run may be encoding the features that this one waits for.
    dist.init_process_group(backend, timeout=timedelta(hours=2))
    try:
        yield local
    finally:
        dist.destroy_process_group()
        # A thread of Gloo that lets go of a tensor while the interpreter shuts down aborts the
        # process. They end with the group, which models keep alive in reference cycles; where
        # PyTorch itself keeps it (the meshes of FSDP), they are given the time to let go before.
        gc.collect()
        time.sleep(0.1)


def rank() -> int:
    """Number of this process, 0 the first."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this process prints and writes."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def all_sum(tensor: Tensor) -> Tensor:
    """Return the sum of `tensor` over the processes; exact for integers."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def gather(value: Any) -> list[Any]:
    """Return the `value` of every process, by rank."""
    if not dist.is_initialized():
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def raise_from_rank0(failure: BaseException | None) -> None:
    """Let every process end with what made the first fail, instead of waiting for it for ever."""
    _end_with(gather(failure)[0])


def raise_if_any_failed(failure: BaseException | None) -> None:
    """Let every process end with what made one of them fail."""
    _end_with(next((found for found in gather(failure) if found is not None), None))


def _end_with(failure: BaseException | None) -> None:
    if failure is not None:
        # Told once is enough.
        raise failure if is_main() else SystemExit(2)


def wrap(
    module: nn.Module, blocks: Iterable[nn.Module], sharding: str, method: str = "predict"
) -> nn.Module:
    """Make a module train on all processes.

    Args:
        module: on its device.
        blocks: the backbone's blocks, the unit of sharding.
        sharding: `ddp` keeps a copy in each process; `fsdp` shards parameters and optimizer
            (FSDP2, `fully_shard`).
        method: of the module that computes too, beside `forward`.
    """
    if world_size() == 1:
        return module
    if next(module.parameters()).is_cuda:
        # Batch norms count over the samples of all processes; for CPUs PyTorch has no such layer.
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if sharding == "fsdp":
        shard(module, blocks, method)
        return module
    return DistributedDataParallel(module)


def shard(module: nn.Module, blocks: Iterable[nn.Module], method: str) -> None:
    """Shard a module over the processes, block by block.

    Args:
        module: on its device.
        blocks: the unit of sharding.
        method: of the module that computes too, beside `forward`.
    """
    for block in blocks:
        fully_shard(block)
    fully_shard(module)
    register_fsdp_forward_method(module, method)


def is_sharded(model: nn.Module) -> bool:
    """Return whether each process holds only a part of every parameter."""
    return isinstance(model, FSDPModule)


def all_finite(model: nn.Module) -> bool:
    """Return whether all parameters are finite, in every process."""
    shares = (p.to_local() if isinstance(p, DTensor) else p for p in model.parameters())
    bad = torch.stack([(~share.isfinite()).sum() for share in shares]).sum()
    return not all_sum(bad).item()


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Keep a sharded model whole in each process, so that they need not compute in step."""
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            # As `fully_shard` has it: the outermost part stays whole until the backward pass.
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


@torch.no_grad()
def share_buffers(model: nn.Module) -> None:
    """Give every process the buffers of the first, such as the statistics of batch norms."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


@contextmanager
def sync_gradients(model: nn.Module, sync: bool) -> Iterator[None]:
    """Average gradients over processes in this backward pass, or keep them for a later one."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(sync)
        yield
    elif isinstance(model, DistributedDataParallel) and not sync:
        with model.no_sync():
            yield
    else:
        yield


def local_device(name: str) -> torch.device:
    """Return the device of a name, for this process; see `process_group`.

    Raises:
        UserError: it does not exist.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator()
        name = accelerator.type if accelerator and torch.accelerator.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"training.device: there is no device '{name}' here") from error
    return device
