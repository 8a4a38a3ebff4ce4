"""Attention in fp32 inside a bf16 model, for CPUs.

model.set_attn_implementation(FP32_ATTENTION)

The backward pass of torch's bf16 attention for CPUs takes about 40 % of a training step (torch 2.13, AMX).
In fp32 the same attention is much faster; the matrix products before and after it stay in bf16.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

FP32_ATTENTION = "sdpa_fp32"


def sdpa_in_fp32(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options,
) -> tuple[torch.Tensor, None]:
    """transformers' sdpa attention in fp32. query, key and value: (batch, heads, tokens, width of a head).

    Returns:
        The output in the query's type, (batch, tokens, heads, width of a head), and no attention weights.
    """
    with torch.autocast(query.device.type, enabled=False):  # which would cast the operands to bf16 again
        output, _ = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), attention_mask, **options
        )
    return output.to(query.dtype), None


AttentionInterface.register(FP32_ATTENTION, sdpa_in_fp32)
AttentionMaskInterface.register(FP32_ATTENTION, sdpa_mask)
