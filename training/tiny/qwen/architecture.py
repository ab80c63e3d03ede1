"""Configuration of qwen-tiny: Qwen2.5-VL with a tower of 6 blocks and an LLM of 12 layers, both 192 wide."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig

from parbench.models.special_tokens import take_ids
from parbench.scenes.world import PATCH
from tiny.vocabulary import CONTEXT

MERGE = 2
FRAMES = 2
# As in Qwen2.5-VL; 336 x 336 pixels are its usual image here, and the most are eight of those.
PIXELS = {"min_pixels": 4 * 28 * 28, "max_pixels": 8 * 336 * 336}


def qwen_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """The configuration, with the ids of a tokenizer.

    The LLM has two key heads for six query heads. Its rotary base is 100, since text and images are short here: with 10,000 the
    last section of the axes, which is for columns, would turn by a fiftieth of a radian across an image.
    """
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 6,
            "hidden_size": 192,
            "intermediate_size": 512,
            "out_hidden_size": 192,
            "num_heads": 6,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES,
            "window_size": 8 * PATCH,
            "fullatt_block_indexes": [2, 5],
            "tokens_per_second": 1,
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        tie_word_embeddings=True,
    )
    take_ids(config, tokenizer)
    return config
