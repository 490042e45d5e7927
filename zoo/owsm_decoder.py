"""ESPnet's Transformer decoder, step by step, with a cache of keys and values.

The modules are ESPnet's own (each projection is *called*, so whatever wraps it takes part). ESPnet's `batch_score`
projects the whole encoder output and the whole prefix again in every layer at every step; here the keys and values of
the cross-attention are computed once, and those of the prefix are kept.
"""

import torch
import torch.nn.functional as F
from torch import nn

from zoo.cached_stepper import CachedStepper, joined_heads, split_heads
from zoo.interface import Hidden

FIRST_CAPACITY = 32  # positions; doubled when they are used up


class OwsmStepper(CachedStepper):
    """decoder: ESPnet's TransformerDecoder."""

    def __init__(self, decoder: nn.Module, states: Hidden, prompt: torch.Tensor):
        super().__init__(states, prompt)
        self.decoder = decoder

    def _open(self, states: torch.Tensor) -> None:
        capacity = max(FIRST_CAPACITY, 2 * self.prompt.shape[1])
        for layer in self.decoder.decoders:
            attention = layer.src_attn
            self.cross_keys.append(attention.k_norm(_heads(attention.linear_k(states), attention)))
            self.cross_values.append(_heads(attention.linear_v(states), attention))
            attention = layer.self_attn
            shape = (states.shape[0], attention.h, capacity, attention.d_k)
            self.keys.append(states.new_empty(shape))
            self.values.append(states.new_empty(shape))

    def _logits(self, tokens: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        while stop > self.keys[0].shape[2]:
            self.keys = [_grown(key, start) for key in self.keys]
            self.values = [_grown(value, start) for value in self.values]
        x = self._embedded(tokens, start, stop)
        for i, layer in enumerate(self.decoder.decoders):
            before = layer.normalize_before
            h = layer.norm1(x) if before else x
            y = self._self_attention(layer.self_attn, h, i, start, stop)
            x = x + (layer.concat_linear1(torch.cat((h, y), dim=-1)) if layer.concat_after else y)
            x = x if before else layer.norm1(x)
            h = layer.norm2(x) if before else x
            y = self._cross_attention(layer.src_attn, h, i)
            x = x + (layer.concat_linear2(torch.cat((h, y), dim=-1)) if layer.concat_after else y)
            x = x if before else layer.norm2(x)
            x = x + layer.feed_forward(layer.norm3(x) if before else x)
            x = x if before else layer.norm3(x)
        x = x[:, -1]
        return self.decoder.output_layer(self.decoder.after_norm(x) if self.decoder.normalize_before else x)

    def _embedded(self, tokens: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """As `decoder.embed` does it for a whole prefix, for its last positions only."""
        table, positions = self.decoder.embed
        x = table(tokens)
        positions.extend_pe(x.new_empty(1, stop))
        pe = positions.pe[:, start:stop]
        return x * positions.xscale + getattr(positions, "alpha", 1.0) * pe

    def _self_attention(self, attention: nn.Module, h: torch.Tensor, i: int, start: int, stop: int) -> torch.Tensor:
        query = attention.q_norm(_heads(attention.linear_q(h), attention))
        self.keys[i][:, :, start:stop] = attention.k_norm(_heads(attention.linear_k(h), attention))
        self.values[i][:, :, start:stop] = _heads(attention.linear_v(h), attention)
        y = F.scaled_dot_product_attention(
            query, self.keys[i][:, :, :stop], self.values[i][:, :, :stop], is_causal=stop - start > 1
        )
        return attention.linear_out(joined_heads(y))

    def _cross_attention(self, attention: nn.Module, h: torch.Tensor, i: int) -> torch.Tensor:
        query = attention.q_norm(_heads(attention.linear_q(h), attention))
        y = F.scaled_dot_product_attention(query, self.cross_keys[i], self.cross_values[i], attn_mask=self.cross_mask)
        return attention.linear_out(joined_heads(y))


def _heads(x: torch.Tensor, attention: nn.Module) -> torch.Tensor:
    return split_heads(x, attention.h, attention.d_k)


def _grown(cache: torch.Tensor, length: int) -> torch.Tensor:
    new = cache.new_empty((*cache.shape[:2], 2 * cache.shape[2], cache.shape[3]))
    new[:, :, :length] = cache[:, :, :length]
    return new
