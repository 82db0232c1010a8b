"""Where an experiment computes."""

from __future__ import annotations

import torch
from pydantic import Field, field_validator

from stochrestore.config import ExperimentSettings


class DeviceSettings(ExperimentSettings):
    """For experiments that use a GPU where there is one."""

    device: str = Field("auto", description="auto, cpu, cuda")

    deterministic: bool = Field(
        False, description="whether a training on a GPU is repeated to the bit, and takes longer"
    )

    @field_validator("device")
    @classmethod
    def _present_device(cls, device: str) -> str:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError("auto, cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("auto or cpu: this machine has no GPU that torch can use")
        return device

    def torch_device(self) -> torch.device:
        """Where to compute."""
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(automatic if self.device == "auto" else self.device)
