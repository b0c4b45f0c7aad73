"""Steps 2 and 3: distributed training, on as many workers as are started.

Any launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT will do: mlstead, or torchrun.
A candidate learns from the training part less its validation part, on which it is judged. With
``--final`` the settings of the best candidate are used and everything is learned from.
"""

import argparse
import datetime
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from network import Network
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
WEIGHT_DECAY = 0.01


class Data(NamedTuple):
    """Images as [n, 1, 28, 28] between 0 and 1, and their classes."""

    images: torch.Tensor
    labels: torch.Tensor


class Settings(NamedTuple):
    """What a candidate differs in: the largest learning rate, and passes over the images."""

    lr: float
    epochs: int


def load(path: Path, *, everything: bool) -> tuple[Data, Data]:
    """Give what is learned from, and what is set aside for validation."""
    with np.load(path) as file:
        images, labels, validation = file["images"], file["labels"], file["validation"]
    data = Data(torch.from_numpy(images)[:, None].float() / 255, torch.from_numpy(labels))
    learn = torch.from_numpy(validation | True if everything else ~validation)
    aside = torch.from_numpy(validation)
    return Data(*(part[learn] for part in data)), Data(*(part[aside] for part in data))


def epochs_for(count: int) -> int:
    """Choose passes so that few images are seen often enough, and many not for too long."""
    return max(4, min(40, 25_000 // count))


def fit(network: DistributedDataParallel, data: Data, settings: Settings) -> None:
    """Train; every worker computes its share of each batch, and all hold the same weights."""
    rank, world = dist.get_rank(), dist.get_world_size()
    count = len(data.labels)
    batch = min(BATCH, count) // world * world
    if not batch:
        raise SystemExit(f"{count} images are too few for {world} workers")
    steps = count // batch
    optimizer = torch.optim.AdamW(network.parameters(), settings.lr, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.epochs * steps
    )
    order = torch.Generator().manual_seed(SEED)  # the same on every worker
    network.train()
    for epoch in range(settings.epochs):
        places = torch.randperm(count, generator=order)
        mirrored = torch.rand(count, generator=order) < 0.5
        total = 0.0
        for step in range(steps):
            mine = places[step * batch : (step + 1) * batch][rank::world]
            images = data.images[mine]
            images = torch.where(mirrored[mine, None, None, None], images.flip(3), images)
            loss = functional.cross_entropy(network(images), data.labels[mine])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        log(loss=total / steps, step=epoch)
        if rank == 0:
            print(f"epoch {epoch + 1} of {settings.epochs}: loss {total / steps:.3f}", flush=True)


def accuracy(network: torch.nn.Module, data: Data) -> float:
    """Give the share of images whose class is found."""
    network.eval()
    with torch.no_grad():
        found = [network(images).argmax(1) for images in data.images.split(1000)]
    return float((torch.cat(found) == data.labels).float().mean())


def same_everywhere(network: torch.nn.Module) -> bool:
    """Say whether all workers hold the same weights, bit by bit."""
    mine = torch.cat([weight.detach().flatten() for weight in network.parameters()])
    first = mine.clone()
    dist.broadcast(first, src=0)
    same = torch.tensor(int(torch.equal(mine, first)))
    dist.all_reduce(same, dist.ReduceOp.MIN)
    return bool(same.item())


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--epochs", type=int, default=0, help="0: as suits the number of images")
    parser.add_argument("--final", action="store_true", help="as the best candidate, on everything")
    return parser.parse_args()


def main() -> None:
    """Train, judge, and leave settings or the final model behind; the first worker writes."""
    given = arguments()
    inputs = Path(os.environ.get("MLSTEAD_INPUTS", "outputs"))
    outputs = Path(os.environ.get("MLSTEAD_OUTPUTS", "outputs"))
    lr = given.lr
    if given.final:
        lr = json.loads((inputs / "best" / "settings.json").read_text())["lr"]
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MASTER_PORT", "29511")
    dist.init_process_group("gloo", timeout=datetime.timedelta(minutes=5))

    learn, aside = load(inputs / "train" / "train.npz", everything=given.final)
    settings = Settings(lr, given.epochs or epochs_for(len(learn.labels)))
    network = Network()
    fit(DistributedDataParallel(network), learn, settings)
    if not same_everywhere(network):
        raise SystemExit("the workers' weights differ")
    if dist.get_rank() == 0:
        write(network, settings, aside, outputs, final=given.final)
    dist.barrier()
    dist.destroy_process_group()


def write(network: Network, settings: Settings, aside: Data, outputs: Path, *, final: bool) -> None:
    """Leave the final model, or a candidate's settings and how good it is."""
    if final:
        import export  # noqa: PLC0415 onnx is needed at the end only

        sample = (aside.images[:8, 0] * 255).round().to(torch.uint8).numpy()
        export.write(network, outputs / "model", sample)
        print(f"model written to {outputs / 'model'}")
        return
    score = accuracy(network, aside)
    log(accuracy=score)
    folder = outputs / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings._asdict()))
    (outputs / "values.json").write_text(json.dumps({"accuracy": score}))
    print(f"learning rate {settings.lr}: accuracy {score:.4f} on {len(aside.labels)} images")


if __name__ == "__main__":
    main()
