"""Stand-ins for Transformer Engine's layers: the attributes that its sources set, and the touches of its
MultiheadAttention on its core attention, as of 2.11 to 2.20.2. The mathematics is not theirs.
"""

import math

from torch import nn


class DotProductAttention(nn.Module):
    """Softmax that must not be called."""

    def __init__(
        self, num_attention_heads, kv_channels, num_gqa_groups=None, attention_dropout=0.0, tp_size=1, **settings
    ):
        super().__init__()
        self.num_attention_heads = num_attention_heads
        self.num_gqa_groups = num_attention_heads if num_gqa_groups is None else num_gqa_groups
        self.num_gqa_groups_per_partition = self.num_gqa_groups // tp_size
        self.hidden_size_per_attention_head_k = self.hidden_size_per_attention_head_v = kv_channels
        self.attention_dropout, self.tp_size = attention_dropout, tp_size
        self.softmax_scale, self.softmax_type, self.return_max_logit = 1 / math.sqrt(kv_channels), "vanilla", False
        self.qkv_format, self.attn_mask_type, self.window_size = "sbhd", "causal", (-1, 0)
        self.layer_number, self.attention_type = 1, "self"
        self.cp_group = self.cp_global_ranks = self.cp_stream = None
        self.cp_comm_type = "p2p"
        self.__dict__.update(settings)

    def forward(self, *_, **__):
        raise AssertionError("softmax was called")


class MultiheadAttention(nn.Module):
    """Projections around a core attention."""

    def __init__(self, hidden_size, num_heads, num_groups, **settings):
        super().__init__()
        channels = hidden_size // num_heads
        self.sizes = [num_heads * channels, num_groups * channels, num_groups * channels]
        self.channels = channels
        self.qkv = nn.Linear(hidden_size, sum(self.sizes), bias=False)
        self.core_attention = DotProductAttention(num_heads, channels, num_groups, **settings)
        self.proj = nn.Linear(hidden_size, hidden_size, bias=False)

    def set_context_parallel_group(self, *arguments):
        for child in list(self.modules())[1:]:
            if hasattr(child, "set_context_parallel_group"):
                child.set_context_parallel_group(*arguments)

    def forward(self, hidden, attention_mask=None, attn_mask_type="causal", window_size=None):
        name = self.core_attention.name or ""
        self.core_attention.output_quantizer_role = self.core_attention.grad_input_quantizer_role = None
        assert self.core_attention.get_qkv_quantization_capabilities() == (False, False), name
        query, key, value = (
            part.unflatten(-1, (-1, self.channels)) for part in self.qkv(hidden).split(self.sizes, dim=-1)
        )
        context = self.core_attention(
            query,
            key,
            value,
            qkv_format=self.core_attention.qkv_format,
            cu_seqlens_q=None,
            cu_seqlens_kv=None,
            cu_seqlens_q_padded=None,
            cu_seqlens_kv_padded=None,
            max_seqlen_q=None,
            max_seqlen_kv=None,
            attention_mask=attention_mask,
            attn_mask_type=attn_mask_type,
            window_size=window_size,
            softcap=0.0,
            bottom_right_diagonal=None,
            thd_attention_policies=None,
            thd_attention_policy_dispatch="auto",
            checkpoint_core_attention=False,
            core_attention_bias_type="no_bias",
            core_attention_bias=None,
            alibi_slopes=None,
            fast_zero_fill=True,
            inference_params=None,
            pad_between_seqs=None,
            fp8_output=False,
            qkv_layer=None,
            kv_layer=None,
            qkv_interleave_dim=-3,
        )
        return self.proj(context)


class TransformerLayer(nn.Module):
    """Self-attention, and cross-attention where there is an encoder."""

    def __init__(self, *sizes, decoder=False, **settings):
        super().__init__()
        self.self_attention = MultiheadAttention(*sizes, **settings)
        if decoder:
            self.inter_attention = MultiheadAttention(*sizes, attention_type="cross", **settings)

    def forward(self, hidden, **more):
        return hidden + self.self_attention(hidden, **more)
