"""Whisper's decoder, step by step, with a cache laid out for it.

The modules are transformers' own (each projection is *called*, so whatever wraps it takes part); only the loop around
them is ours: keys and values are written into preallocated memory, cross-attention keys and values are computed once,
and rows can be moved.
"""

import torch
import torch.nn.functional as F
from torch import nn

from zoo.cached_stepper import CachedStepper, joined_heads, split_heads
from zoo.interface import Hidden


class WhisperStepper(CachedStepper):
    """decoder: transformers' WhisperDecoder; head: hidden -> logits; limit: most new tokens; watch: keep the
    cross-attention's scores in `watched`, one `[B, heads, P, T]` a layer, before the softmax.
    """

    def __init__(
        self,
        decoder: nn.Module,
        head: nn.Module,
        states: Hidden,
        prompt: torch.Tensor,
        limit: int,
        *,
        watch: bool = False,
    ):
        super().__init__(states, prompt)
        self.decoder, self.head = decoder, head
        self.capacity = prompt.shape[1] + limit
        self.watched: list[torch.Tensor] | None = [] if watch else None

    def _open(self, states: torch.Tensor) -> None:
        for layer in self.decoder.layers:
            attention = layer.encoder_attn
            self.cross_keys.append(_heads(attention.k_proj(states), attention))
            self.cross_values.append(_heads(attention.v_proj(states), attention))
            shape = (states.shape[0], attention.num_heads, self.capacity, attention.head_dim)
            self.keys.append(states.new_empty(shape))
            self.values.append(states.new_empty(shape))

    def _logits(self, tokens: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        decoder = self.decoder
        x = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[start:stop]
        for i, layer in enumerate(decoder.layers):
            attention = layer.self_attn
            h = layer.self_attn_layer_norm(x)
            query = _heads(attention.q_proj(h), attention)
            self.keys[i][:, :, start:stop] = _heads(attention.k_proj(h), attention)
            self.values[i][:, :, start:stop] = _heads(attention.v_proj(h), attention)
            y = F.scaled_dot_product_attention(
                query,
                self.keys[i][:, :, :stop],
                self.values[i][:, :, :stop],
                is_causal=tokens.shape[1] > 1,
                scale=attention.scaling,
            )
            x = x + attention.out_proj(joined_heads(y))
            attention = layer.encoder_attn
            query = _heads(attention.q_proj(layer.encoder_attn_layer_norm(x)), attention)
            if self.watched is not None:
                self.watched.append(query @ self.cross_keys[i].transpose(2, 3) * attention.scaling)
            y = F.scaled_dot_product_attention(
                query, self.cross_keys[i], self.cross_values[i], attn_mask=self.cross_mask, scale=attention.scaling
            )
            x = x + attention.out_proj(joined_heads(y))
            x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
        return self.head(decoder.layer_norm(x[:, -1]))


def _heads(x: torch.Tensor, attention: nn.Module) -> torch.Tensor:
    return split_heads(x, attention.num_heads, attention.head_dim)
