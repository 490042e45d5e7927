"""Card `debug`: a tiny Whisper-architecture model made from a seed, for tests and first tries.

It is untrained: it proves machinery, it knows no words.
"""

from pathlib import Path

LANGUAGES = ("en", "hi", "it", "pa", "te")
SEED = 20_261_121


def build(folder: Path) -> None:
    """Write the model's files into `folder`: the same bytes every time."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from zoo.progress import quiet_bars
    from zoo.whisper_files import build_generation_config, build_tokenizer, byte_alphabet, save_extractor

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer({character: i for i, character in enumerate(byte_alphabet())}, [], LANGUAGES)
    end, start = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|startoftranscript|>"])
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=64,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_source_positions=1500,
        max_target_positions=128,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = WhisperForConditionalGeneration(config)
    model.generation_config = build_generation_config(tokenizer, LANGUAGES, config.max_target_positions)
    with quiet_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_extractor(folder)
