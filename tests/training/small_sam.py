"""A Segment Anything Model of segment_anything's own classes, small and randomly initialised."""

from __future__ import annotations

import torch
from torch import nn

CHANNELS = 32
SIDE = 128
GRID = 8


def small_sam(seed: int = 0) -> nn.Module:
    """A Sam that sees 128x128 pixels as 8x8 cells of 32 channels."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(seed)
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=SIDE,
            patch_size=SIDE // GRID,
            embed_dim=32,
            depth=2,
            num_heads=2,
            out_chans=CHANNELS,
            use_rel_pos=True,
            window_size=4,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=PromptEncoder(CHANNELS, (GRID, GRID), (SIDE, SIDE), mask_in_chans=4),
        mask_decoder=MaskDecoder(
            transformer_dim=CHANNELS,
            transformer=TwoWayTransformer(depth=1, embedding_dim=CHANNELS, num_heads=2, mlp_dim=32),
            iou_head_hidden_dim=16,
        ),
    )
