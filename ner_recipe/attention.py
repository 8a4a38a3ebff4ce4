"""Attention for CPUs that compute in bf16.

model.set_attn_implementation(CPU_ATTENTION)

The backward pass of torch's fused bf16 attention for CPUs is slow (torch 2.13). A training therefore
computes attention as matrix products in bf16. An evaluation uses the fused attention in fp32, whose memory
does not grow with the square of the length.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

CPU_ATTENTION = "cpu_bf16"
LONGEST = 512  # subtokens; beyond it the scores of all pairs take too much memory


def cpu_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options,
) -> tuple[torch.Tensor, None]:
    """transformers' sdpa attention. query, key and value: (batch, heads, tokens, width of a head).

    Returns:
        The output in the query's type, (batch, tokens, heads, width of a head), and no attention weights.
    """
    with torch.autocast(query.device.type, enabled=False):  # which would cast the operands of sdpa to bf16
        if module.training and is_plain(module, query, key, value, attention_mask, options):
            output = products(query, key, value, attention_mask, **options)
        else:
            operands = query.float(), key.float(), value.float()
            output, _ = sdpa_attention_forward(module, *operands, attention_mask, **options)
    return output.to(query.dtype), None


def is_plain(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    options: dict,
) -> bool:
    """Whether this is attention as in BERT: in both directions, without bias, each head with its own keys."""
    return (
        getattr(module, "is_causal", True) is False
        and not options.get("is_causal")
        and options.get("position_bias") is None
        and key.shape[1] == query.shape[1]
        and key.shape[2] <= LONGEST
        and query.dtype == key.dtype == value.dtype  # rotated ones of some encoders are in fp32
        and (attention_mask is None or attention_mask.dtype == torch.bool)
    )


def products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **unused,
) -> torch.Tensor:
    """The attention as two matrix products; torch's softmax adds up in fp32."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query * scale) @ key.transpose(2, 3)  # (batch, heads, tokens, tokens)
    if attention_mask is not None:
        # Not infinity: with a sliding window all keys of a padded position may be masked.
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = torch.nn.functional.dropout(scores.softmax(dim=-1), dropout)
    return (weights @ value).transpose(1, 2).contiguous()


AttentionInterface.register(CPU_ATTENTION, cpu_attention)
AttentionMaskInterface.register(CPU_ATTENTION, sdpa_mask)
