"""The network: two convolutions and two layers over grey images of 28 by 28."""

import torch
from torch import nn
from torch.nn import functional

WIDTH = 16
HIDDEN = 64
DROPOUT = 0.3


class Network(nn.Module):
    """Takes images as [n, 1, 28, 28] between 0 and 1, gives ten scores each."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, WIDTH, 5, stride=2, padding=2, bias=False)
        self.first_norm = nn.BatchNorm2d(WIDTH)
        self.second = nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(2 * WIDTH)
        self.hidden = nn.Linear(2 * WIDTH * 7 * 7, HIDDEN)
        self.scores = nn.Linear(HIDDEN, 10)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the scores."""
        seen = functional.relu(self.first_norm(self.first(images)))
        seen = functional.relu(self.second_norm(self.second(seen)))
        seen = functional.max_pool2d(seen, 2).flatten(1)
        seen = functional.relu(self.hidden(self.drop(seen)))
        return self.scores(self.drop(seen))
