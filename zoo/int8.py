"""A frozen base held in int8 on a CPU: a quarter of the memory to read, and integer products where the CPU has them.

Weights are rounded once, symmetrically, one scale per output; inputs are rounded as they come, one scale per row (a
frame or a token), as CTranslate2 does. A row's result depends on that row alone, so what a clip gives still does not
depend on the clips it shares a batch with. Everything between the linear layers stays in fp32, and so do the adapters.
"""

import warnings

import torch
from torch import nn

from zoo.errors import ModelError

BLOCK_ROWS = 256  # rows quantised at a time, so that what lies between two steps stays in the CPU's cache
TINY = 1e-12  # a row of zeros has no scale


def available() -> bool:
    """Whether this torch has the product (FBGEMM, on x86)."""
    return "fbgemm" in torch.backends.quantized.supported_engines


class Int8Linear(nn.Module):
    """In place of an `nn.Linear`: `[..., in]` -> `[..., out]`, fp32 in and out, no gradient."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp_(min=TINY) / 127
        zeros = torch.zeros(self.out_features, dtype=torch.long)
        with (
            warnings.catch_warnings()
        ):  # torch means to drop quantised tensors; what is kept here is the packed product
            warnings.simplefilter("ignore", UserWarning)
            rounded = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(rounded, None)
        self.bias = None if linear.bias is None else linear.bias.detach().float()
        # Without VNNI the product adds pairs in 16 bits, which 8-bit inputs can overflow. 7 bits cannot, if they are 7 bits
        # as the unsigned numbers that are multiplied: 1 to 127 about 64.
        self.levels, self.zero = (127, 128) if torch.cpu._is_vnni_supported() else (63, 64)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, self.in_features)
        rows = flat.shape[0]
        if rows <= BLOCK_ROWS:
            y = self._rows(flat, None)
        else:
            y = flat.new_empty(rows, self.out_features)
            for start in range(0, rows, BLOCK_ROWS):
                self._rows(flat[start : start + BLOCK_ROWS], y[start : start + BLOCK_ROWS])
        return y.view(*x.shape[:-1], self.out_features)

    def _rows(self, x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        """x `[rows, in]` is brought to -1 ... 1 row by row, so that one constant step fits every row of it."""
        size = x.abs().amax(dim=-1, keepdim=True).clamp_(min=TINY)
        product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / size, 1 / self.levels, self.zero, self.packed
        )
        if self.bias is None:
            return torch.mul(product, size, out=out)
        return torch.addcmul(self.bias, product, size, out=out)


def quantise(module: nn.Module, names: list[str]) -> None:
    """Replace these linear layers of `module` in place. Raises ModelError where torch has no int8 product."""
    if not available():
        raise ModelError(
            "This torch has no int8 product for a CPU",
            valid=f"FBGEMM; it has {', '.join(torch.backends.quantized.supported_engines)}",
            remedy="quantize=None, or dtype='bfloat16'",
        )
    for name in names:
        parent = module.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], Int8Linear(module.get_submodule(name)))
