"""Configuration of llava-tiny: LLaVA-1.5 with a CLIP of 6 layers and a Llama of 12 layers, both 192 wide."""

from __future__ import annotations

from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig, LlamaConfig, LlavaConfig

from parbench.scenes.world import CANVAS, PATCH
from tiny.vocabulary import CONTEXT, SPECIAL

PROJECTION = 128


def _token_ids() -> dict[str, int]:
    names = {"pad_token_id": "<pad>", "bos_token_id": "<s>", "eos_token_id": "</s>"}
    return {key: SPECIAL.index(token) for key, token in names.items()}


def clip_config(vocabulary: int) -> CLIPConfig:
    """The CLIP: vision and text tower with projections to 128 dimensions. The last id of the vocabulary is its end token."""
    vision = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        image_size=CANVAS,
        patch_size=PATCH,
        projection_dim=PROJECTION,
    )
    text = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=PROJECTION,
        **{**_token_ids(), "eos_token_id": vocabulary - 1},
    )
    return CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=PROJECTION)


def llava_config(vocabulary: int) -> LlavaConfig:
    """The LLaVA, as LLaVA-1.5: feature layer -2 without CLS and a two-layer GELU projector; embeddings are tied."""
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=12,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        **_token_ids(),
    )
    return LlavaConfig(
        vision_config=clip_config(vocabulary).vision_config.to_dict(),
        text_config=text.to_dict(),
        image_token_index=SPECIAL.index("<image>"),
        image_token_id=SPECIAL.index("<image>"),
        image_seq_length=(CANVAS // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
        **_token_ids(),
    )
