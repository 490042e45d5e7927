"""Where computing in bf16 pays."""

import torch


def bf16_pays(device: str) -> bool:
    """Whether a device multiplies bf16 matrices itself. A CPU without AVX-512 does it value by value, ten times slower than
    in fp32. device: `cpu`, `cuda`, `cuda:1`."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
