"""The tensors of a Qwen3-ASR checkpoint: canonical names, their shapes, and what each layout calls them.

A canonical name is the original layout's without its prefix "thinker.".
"""

from __future__ import annotations

from asr_service.model.config import AudioConfig, Layout, ModelConfig, TextConfig, halved_thrice

Shape = tuple[int, ...]

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"

# The first prefix that fits a canonical name, and what stands in its place.
_PREFIXES: dict[Layout, tuple[tuple[str, str], ...]] = {
    "thinker": (("", "thinker."),),
    "native": (
        ("audio_tower.proj1.", "model.multi_modal_projector.linear_1."),
        ("audio_tower.proj2.", "model.multi_modal_projector.linear_2."),
        ("audio_tower.", "model.audio_tower."),
        ("model.", "model.language_model."),
        ("lm_head.", "lm_head."),
    ),
}
# Buffers that the network computes by itself; some tools store them all the same.
_COMPUTED = (".inv_freq", "positional_embedding.positional_embedding")


def stored_name(name: str, layout: Layout) -> str:
    """What a layout calls the tensor with this canonical name."""
    for prefix, replacement in _PREFIXES[layout]:
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    raise KeyError(name)


def tensor_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Every tensor that a checkpoint must have, by canonical name. A tied one has no head of its own."""
    shapes = _audio_shapes(config.audio) | _text_shapes(config.text)
    if not config.text.is_tied:
        shapes[HEAD] = (config.head_rows or config.text.vocab_size, config.text.hidden)
    return shapes


def is_dispensable(name: str, config: ModelConfig) -> bool:
    """Whether a tensor, by its stored name, may be there though it is not used: a tied head is the embedding again."""
    return name.endswith(_COMPUTED) or (config.text.is_tied and name == stored_name(HEAD, config.layout))


def _audio_shapes(config: AudioConfig) -> dict[str, Shape]:
    d, channels = config.d_model, config.conv_channels
    shapes: dict[str, Shape] = {}
    for index in (1, 2, 3):
        shapes |= _affine(f"audio_tower.conv2d{index}", (channels, 1 if index == 1 else channels, 3, 3))
    shapes["audio_tower.conv_out.weight"] = (d, channels * halved_thrice(config.n_mels))
    for layer in range(config.n_layers):
        prefix = f"audio_tower.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _affine(f"{prefix}.self_attn.{projection}", (d, d))
        shapes |= _affine(f"{prefix}.self_attn_layer_norm", (d,)) | _affine(f"{prefix}.final_layer_norm", (d,))
        shapes |= _affine(f"{prefix}.fc1", (config.ffn_dim, d)) | _affine(f"{prefix}.fc2", (d, config.ffn_dim))
    shapes |= _affine("audio_tower.ln_post", (d,))
    return shapes | _affine("audio_tower.proj1", (d, d)) | _affine("audio_tower.proj2", (config.out_dim, d))


def _text_shapes(config: TextConfig) -> dict[str, Shape]:
    q_dim, kv_dim = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    shapes: dict[str, Shape] = {EMBEDDING: (config.vocab_size, config.hidden), "model.norm.weight": (config.hidden,)}
    for layer in range(config.n_layers):
        prefix = f"model.layers.{layer}"
        attention: dict[str, Shape] = {
            "q_proj": (q_dim, config.hidden),
            "k_proj": (kv_dim, config.hidden),
            "v_proj": (kv_dim, config.hidden),
            "o_proj": (config.hidden, q_dim),
        }
        for projection, shape in attention.items():
            name = f"{prefix}.self_attn.{projection}"
            shapes |= _affine(name, shape) if config.attention_bias else {f"{name}.weight": shape}
        for norm in ("q_norm", "k_norm"):
            shapes[f"{prefix}.self_attn.{norm}.weight"] = (config.head_dim,)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}.{norm}.weight"] = (config.hidden,)
        for projection in ("gate_proj", "up_proj"):
            shapes[f"{prefix}.mlp.{projection}.weight"] = (config.ffn_dim, config.hidden)
        shapes[f"{prefix}.mlp.down_proj.weight"] = (config.hidden, config.ffn_dim)
    return shapes


def _affine(name: str, weight: Shape) -> dict[str, Shape]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
