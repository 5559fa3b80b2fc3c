"""How a network is computed: what it was published as, and faster ways to much the same logits."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Mode(StrEnum):
    """One way to compute a network."""

    EAGER = "eager"
    """Operator by operator, in the dtype that it was loaded in."""

    CHANNELS_LAST = "channels-last"
    """The channels of a pixel side by side, as the convolutions of most processors read them.

    Batch normalisation is in the weights of the convolutions before it. So it is in the modes below.
    """

    BF16 = "bf16"
    """Channels last, weights and values in bfloat16, but for the last layer."""

    COMPILE = "compile"
    """Channels last, compiled for this machine: operators fused, weights laid out for it."""

    COMPILE_BF16 = "compile-bf16"
    """The same, with weights and values in bfloat16."""

    CASCADE = "cascade"
    """As `bf16`, and again as `channels-last` where the two likeliest classes are close."""

    COMPILE_CASCADE = "compile-cascade"
    """The same of `compile-bf16` and `compile`."""

    INT8 = "int8"
    """8-bit integers, with ranges from a calibration: in no search, as it changes answers."""

    @property
    def parts(self) -> "tuple[Mode, ...]":
        """Return the modes that it computes in: of a cascade the fast one, then the exact one."""
        match self:
            case Mode.CASCADE:
                return Mode.BF16, Mode.CHANNELS_LAST
            case Mode.COMPILE_CASCADE:
                return Mode.COMPILE_BF16, Mode.COMPILE
        return (self,)

    @property
    def is_cascade(self) -> bool:
        """Tell whether some pictures are computed twice."""
        return len(self.parts) > 1

    @property
    def is_compiled(self) -> bool:
        """Tell whether it is made of libraries for this machine."""
        return self.parts[0] in (Mode.COMPILE, Mode.COMPILE_BF16)

    @property
    def is_bf16(self) -> bool:
        """Tell whether it computes in bfloat16 whatever the network was loaded in."""
        return self.parts[0] in (Mode.BF16, Mode.COMPILE_BF16)


ModeSetting = Literal[
    "auto", "auto-fp32", "eager", "channels-last", "bf16", "compile", "compile-bf16", "cascade", "compile-cascade"
]
"""A mode by its name; `auto` takes the fastest that agrees with eager, `auto-fp32` of those that keep the dtype."""


class Measurement(BaseModel):
    """What a search has found of one mode."""

    model_config = ConfigDict(frozen=True)

    mode: Mode
    images_per_second: float | None = Field(None, description="In batches of the largest size.", examples=[32.7])
    agreement: float | None = Field(
        None, ge=0, le=1, description="Share of real pictures with the same likeliest class as eager.", examples=[1.0]
    )
    score_difference: float | None = Field(
        None, ge=0, le=1, description="Largest difference of a score from eager.", examples=[0.004]
    )
    recomputed: float | None = Field(
        None, ge=0, le=1, description="Of a cascade: share of real pictures that it computes twice.", examples=[0.05]
    )
    reason: str | None = Field(None, description="Why it was not measured or is not taken.")
