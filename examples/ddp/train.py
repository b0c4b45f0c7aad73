"""Data-parallel training with PyTorch over gloo, and a check that it equals one process.

Each worker computes the gradients of its share of every batch; DistributedDataParallel averages
them, so all workers take the same step. Any launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT will do: mlstead, or torchrun. After every epoch the first worker writes a checkpoint,
from which a restarted group goes on.
"""

import argparse
import datetime
import json
import os
import signal
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from images import load
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

try:
    from mlstead import log
except ImportError:  # by hand, where mlstead is not installed

    def log(**values: float) -> None:
        """Show what a run would record."""
        print(values)


BATCH = 64  # images a step, over all workers together
SEED = 0
RATE = 0.02
CLOSE = 1e-4  # of weights about 0.1; sums in another order differ by about 1e-6


class Data(NamedTuple):
    """Images as [n, 784], and their classes."""

    images: torch.Tensor
    labels: torch.Tensor


class Share(NamedTuple):
    """Which worker of how many; 0 of 1 is a process that does everything."""

    rank: int
    world: int


def network() -> nn.Module:
    """Make the untrained network, the same every time."""
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def batches(data: Data, epoch: int, share: Share) -> list[Data]:
    """Give a worker's share of every batch of an epoch; all shares are of the same size."""
    order = torch.Generator().manual_seed(SEED + epoch)
    places = torch.randperm(len(data.labels), generator=order)
    size = min(BATCH, len(places)) // share.world * share.world
    if not size:
        raise SystemExit(f"{len(places)} images are too few for {share.world} workers")
    cut = [places[at : at + size] for at in range(0, len(places) - size + 1, size)]
    mine = [batch[share.rank :: share.world] for batch in cut]
    return [Data(data.images[batch], data.labels[batch]) for batch in mine]


def run_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Data, epoch: int, share: Share
) -> float:
    """Train for one epoch; give the mean loss of this worker's share."""
    total, steps = 0.0, 0
    for batch in batches(data, epoch, share):
        loss = functional.cross_entropy(model(batch.images), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, steps = total + loss.item(), steps + 1
    return total / steps


def gradient_difference(model: DistributedDataParallel, data: Data, share: Share) -> float:
    """Give the largest difference between the averaged gradients and those of one process."""
    mine, whole = batches(data, 0, share)[0], batches(data, 0, Share(0, 1))[0]
    model.zero_grad()
    functional.cross_entropy(model(mine.images), mine.labels).backward()
    averaged = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    functional.cross_entropy(model.module(whole.images), whole.labels).backward()
    pairs = zip(averaged, model.parameters(), strict=True)
    largest = max(float((one - weight.grad).abs().max()) for one, weight in pairs)
    model.zero_grad()
    return largest


def weight_difference(model: nn.Module, data: Data, epochs: int) -> float:
    """Train once more in this process alone; give the largest difference between the weights."""
    alone = network()
    optimizer = torch.optim.SGD(alone.parameters(), RATE, momentum=0.9)
    for epoch in range(epochs):
        run_epoch(alone, optimizer, data, epoch, Share(0, 1))
    pairs = zip(alone.parameters(), model.parameters(), strict=True)
    return max((one - other).detach().abs().max().item() for one, other in pairs)


def same_everywhere(model: nn.Module) -> bool:
    """Say whether all workers hold the same weights, bit by bit."""
    mine = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    first = mine.clone()
    dist.broadcast(first, src=0)
    same = torch.tensor(int(torch.equal(mine, first)))
    dist.all_reduce(same, dist.ReduceOp.MIN)
    return bool(same.item())


def save(path: Path, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint that is there as a whole or not at all."""
    aside = path.with_suffix(".new")
    state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the checkpoint if there is one; give the epoch to go on with."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"]) + 1


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="the folder with the IDX files")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument(
        "--die-at", type=int, default=-1, help="epoch in which the last worker dies"
    )
    return parser.parse_args()


def start_group() -> Share:
    """Join the other workers; alone, a group of one."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MASTER_PORT", "29512")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(minutes=2))
    return Share(dist.get_rank(), dist.get_world_size())


def main() -> None:
    """Train, check, and leave the model and what the checks found."""
    given = arguments()
    share = start_group()
    folder = given.images or Path(os.environ.get("MLSTEAD_INPUTS", ".")) / "images"
    data = Data(*(torch.from_numpy(array) for array in load(folder, "train")))
    checkpoint = Path(os.environ.get("MLSTEAD_CHECKPOINTS", "checkpoints")) / "training.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)

    model = DistributedDataParallel(network())
    difference = gradient_difference(model, data, share)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9)
    begin = resume(checkpoint, model.module, optimizer)
    dist.barrier()  # nobody writes a checkpoint before all have read
    for epoch in range(begin, given.epochs):
        if epoch == given.die_at and share.rank == share.world - 1 and begin == 0:
            print(f"worker {share.rank} dies in epoch {epoch}, as it was told to", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        loss = run_epoch(model, optimizer, data, epoch, share)
        log(loss=loss, step=epoch)
        if share.rank == 0:
            save(checkpoint, epoch, model.module, optimizer)
            print(f"epoch {epoch + 1} of {given.epochs}: loss {loss:.4f}", flush=True)

    same = same_everywhere(model)
    values = {"world": share.world, "resumed_at": begin, "same_on_all_workers": same}
    values["gradient_difference"] = difference
    if share.rank == 0:
        values["weight_difference"] = weight_difference(model, data, given.epochs)
        test = Data(*(torch.from_numpy(array) for array in load(folder, "t10k")))
        with torch.no_grad():
            right = model.module(test.images).argmax(1) == test.labels
        values["accuracy"] = float(right.float().mean())
        outputs = Path(os.environ.get("MLSTEAD_OUTPUTS", "outputs"))
        (outputs / "model").mkdir(parents=True, exist_ok=True)
        torch.save(model.module.state_dict(), outputs / "model" / "weights.pt")
        (outputs / "values.json").write_text(json.dumps(values))
        print(json.dumps(values, indent=2), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    if not same or max(difference, values.get("weight_difference", 0.0)) > CLOSE:
        raise SystemExit("the workers do not agree with each other, or with one process")


if __name__ == "__main__":
    main()
