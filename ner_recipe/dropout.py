"""Dropout whose random numbers cost little on a CPU.

use_cheap_dropout(model)

torch draws a number for each element, which takes most of dropout's time. Here one draw of 64 bits serves
four elements. The draws come from torch's own generator, so a seed or a resumed run gives the same weights.
"""

import torch

DRAWS = 2**16  # values of the 16 bits that decide about one element


class CheapDropout(torch.nn.Dropout):
    """nn.Dropout for a CPU. The probability is rounded to 1/65,536, and the scale fits the rounded one."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        dropped = round(self.p * DRAWS)
        cheap = self.training and 0 < dropped < DRAWS and values.device.type == "cpu"
        if not cheap or torch.compiler.is_compiling():  # which knows nn.Dropout better
            return super().forward(values)
        draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        draws = draws.view(torch.int16)[: values.numel()].view(values.shape)
        kept = (draws >= dropped - DRAWS // 2).to(values.dtype)
        return values * kept.mul_(DRAWS / (DRAWS - dropped))


def use_cheap_dropout(model: torch.nn.Module) -> None:
    """Exchange each nn.Dropout of the model, which keeps its weights and its name."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is torch.nn.Dropout and not child.inplace:
                setattr(parent, name, CheapDropout(child.p).train(child.training))
