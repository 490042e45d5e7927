"""Whisper's decoder, step by step, with a cache laid out for it.

The modules are transformers' own (each projection is *called*, so whatever wraps it takes part); only the loop around
them is ours: keys and values are written into preallocated memory, cross-attention keys and values are computed once,
and rows can be moved.
"""

import torch
import torch.nn.functional as F
from torch import nn

from zoo import rows
from zoo.errors import ModelError


class WhisperStepper:
    """Implements `zoo.search.Stepper` for one batch.

    decoder: transformers' WhisperDecoder; head: hidden -> logits; states: encoder output `[B, T, d]`;
    prompt: int64 `[B, P]`; limit: most new tokens; watch: keep the cross-attention's scores in `watched`, one
    `[B, heads, P, T]` a layer, before the softmax.
    """

    def __init__(
        self,
        decoder: nn.Module,
        head: nn.Module,
        states: torch.Tensor,
        prompt: torch.Tensor,
        limit: int,
        *,
        watch: bool = False,
    ):
        self.decoder, self.head, self.prompt = decoder, head, prompt
        self.states: torch.Tensor | None = states
        self.capacity = prompt.shape[1] + limit
        self.position = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.cross_keys: list[torch.Tensor] = []
        self.cross_values: list[torch.Tensor] = []
        self.watched: list[torch.Tensor] | None = [] if watch else None
        self.followers: tuple = ()

    def start(self) -> torch.Tensor:
        states, self.states = self.states, None
        assert states is not None, "a decode starts once"
        self.followers = rows.followers()
        for layer in self.decoder.layers:
            attention = layer.encoder_attn
            self.cross_keys.append(_heads(attention.k_proj(states), attention))
            self.cross_values.append(_heads(attention.v_proj(states), attention))
            shape = (states.shape[0], attention.num_heads, self.capacity, attention.head_dim)
            self.keys.append(states.new_empty(shape))
            self.values.append(states.new_empty(shape))
        return self._run(self.prompt)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._run(tokens[:, None])

    def select(self, index: torch.Tensor, same_clips: bool) -> None:
        self.keys = [_moved(key, index, self.position) for key in self.keys]
        self.values = [_moved(value, index, self.position) for value in self.values]
        if not same_clips:
            self.cross_keys = [key[index] for key in self.cross_keys]
            self.cross_values = [value[index] for value in self.cross_values]

    def _run(self, tokens: torch.Tensor) -> torch.Tensor:
        if rows.followers() is not self.followers:
            raise ModelError(
                "A decode goes on under other adapters than those that filled its cache",
                valid="one mixture from the first token to the last",
                remedy="start a new decode",
            )
        start, self.position = self.position, self.position + tokens.shape[1]
        return self._logits(tokens, start, self.position)

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
            x = x + attention.out_proj(_joined(y))
            attention = layer.encoder_attn
            query = _heads(attention.q_proj(layer.encoder_attn_layer_norm(x)), attention)
            if self.watched is not None:
                self.watched.append(query @ self.cross_keys[i].transpose(2, 3) * attention.scaling)
            y = F.scaled_dot_product_attention(query, self.cross_keys[i], self.cross_values[i], scale=attention.scaling)
            x = x + attention.out_proj(_joined(y))
            x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
        return self.head(decoder.layer_norm(x[:, -1]))


def _heads(x: torch.Tensor, attention: nn.Module) -> torch.Tensor:
    """`[R, n, d]` -> `[R, heads, n, d / heads]`"""
    return x.view(x.shape[0], x.shape[1], attention.num_heads, attention.head_dim).transpose(1, 2)


def _joined(x: torch.Tensor) -> torch.Tensor:
    """`[R, heads, n, d / heads]` -> `[R, n, d]`"""
    return x.transpose(1, 2).flatten(2)


def _moved(cache: torch.Tensor, index: torch.Tensor, length: int) -> torch.Tensor:
    new = cache.new_empty((len(index), *cache.shape[1:]))
    new[:, :, :length] = cache[index, :, :length]
    return new
