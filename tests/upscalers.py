"""ESRGAN's network in torch, according to its paper, and the three naming schemes of its files."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.reference import randomize

State = dict[str, torch.Tensor]


class Dense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        sizes = [width + i * growth for i in range(5)]
        for i, size in enumerate(sizes, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(size, growth if i < 5 else width, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = x
        for i in range(1, 5):
            seen = torch.cat([seen, F.leaky_relu(getattr(self, f"conv{i}")(seen), 0.2)], 1)
        return x + 0.2 * self.conv5(seen)


class Block(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (Dense(width, growth) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class Esrgan(nn.Module):
    """ESRGAN's network. unshuffle: 1, or 2 as in the x2 models of Real-ESRGAN."""

    def __init__(
        self, width: int = 16, growth: int = 8, blocks: int = 2, doublings: int = 2, unshuffle: int = 1
    ) -> None:
        super().__init__()
        self.unshuffle, self.doublings = unshuffle, doublings
        self.conv_first = nn.Conv2d(3 * unshuffle**2, width, 3, 1, 1)
        self.body = nn.Sequential(*(Block(width, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, 1, 1)
        for i in range(doublings):
            setattr(self, f"conv_up{i + 1}", nn.Conv2d(width, width, 3, 1, 1))
        self.conv_hr = nn.Conv2d(width, width, 3, 1, 1)
        self.conv_last = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_first(F.pixel_unshuffle(x, self.unshuffle))
        x = x + self.conv_body(self.body(x))
        for i in range(self.doublings):
            x = F.leaky_relu(getattr(self, f"conv_up{i + 1}")(F.interpolate(x, scale_factor=2)), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


def make_upscaler(**settings: int) -> Esrgan:
    model: Any = randomize(Esrgan(**settings), gain=1.2)
    return model


def first_names(model: Esrgan) -> State:
    """Return the names of 2018, numbered consecutively, including upsamplings and activations."""
    ups = range(model.doublings)
    ends = {"conv_first": "model.0", "conv_body": f"model.1.sub.{len(model.body)}"}
    ends |= {f"conv_up{i + 1}": f"model.{3 * i + 3}" for i in ups}
    last = 3 * model.doublings + 2
    ends |= {"conv_hr": f"model.{last}", "conv_last": f"model.{last + 2}"}

    def named(name: str) -> str:
        stem, _, kind = name.rpartition(".")
        if stem in ends:
            return f"{ends[stem]}.{kind}"
        _, block, dense, conv = stem.split(".")
        return f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"

    return {named(name): value for name, value in model.state_dict().items()}


def trunk_names(model: Esrgan) -> State:
    """Return the later names of ESRGAN's own repository."""
    words = {"conv_body": "trunk_conv", "body.": "RRDB_trunk.", "rdb": "RDB", "conv_up": "upconv"}
    words["conv_hr"] = "HRconv"

    def named(name: str) -> str:
        for new, old in words.items():
            name = name.replace(new, old)
        return name

    return {named(name): value for name, value in model.state_dict().items()}
