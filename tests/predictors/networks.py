"""Small random networks of the real classes of transformers, as folders."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    PreTrainedTokenizerFast,
    Sam2Config,
    Sam2Model,
)

SIDE = 64

WORDS = ["[PAD]", "[UNK]", "ship", "red", "roof", "the", "in", "image", "left", "on", "tree", "<start>", "<end>"]


def _write_clip_tokenizer(folder):
    """Closes texts as CLIP's does."""
    end = len(WORDS) - 1
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", end - 1), ("<end>", end)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)  # noqa: S106


def write_clipseg(folder):
    """A CLIPSeg of 16 pixel patches, with a tokenizer that closes texts as CLIP's does."""
    torch.manual_seed(0)
    end = len(WORDS) - 1
    config = CLIPSegConfig(
        text_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "vocab_size": len(WORDS), "eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": 0,
            "max_position_embeddings": 9,
        },
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 16,
        },
        projection_dim=16, extract_layers=[0, 1, 3], reduce_dim=16, decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )  # fmt: skip
    model = CLIPSegForImageSegmentation(config)
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.mul_(1.5)  # so that probabilities differ from each other
    model.save_pretrained(folder)
    _write_clip_tokenizer(folder)
    return folder


def write_sam2(folder):
    """A SAM 2 for images of 64 pixels."""
    torch.manual_seed(0)
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1,
                "image_size": [SIDE, SIDE], "window_positional_embedding_background_size": [2, 2],
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
                "window_size_per_stage": [4, 4, 4, 2], "global_attention_blocks": [3],
            },
            "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 16,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    Sam2Model(config).save_pretrained(folder)
    return folder


def write_dino(folder, shortest=64):
    """A Grounding DINO with a tokenizer of four words."""
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2],
            "window_size": 4, "out_indices": [2, 3, 4],
        },
        text_config={
            "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "vocab_size": 9, "max_position_embeddings": 32,
        },
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=5, max_text_len=16, encoder_n_points=2, decoder_n_points=2,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": shortest, "longest_edge": shortest * 3 // 2}).save_pretrained(
        folder
    )
    words = {
        "[PAD]": 0,
        "[UNK]": 1,
        "[CLS]": 2,
        "[SEP]": 3,
        "ship": 4,
        "storage": 5,
        "tank": 6,
        ".": 7,
    }
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"  # noqa: S106
    ).save_pretrained(folder)  # fmt: skip
    return folder


def write_owlv2(folder):
    """An OWLv2 for images of 64 pixels."""
    torch.manual_seed(3)
    end = len(WORDS) - 1
    config = Owlv2Config(
        text_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "vocab_size": len(WORDS), "max_position_embeddings": 9, "bos_token_id": end - 1, "eos_token_id": end,
            "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": SIDE, "patch_size": 16,
        },
        projection_dim=32,
    )  # fmt: skip
    model = Owlv2ForObjectDetection(config)
    with torch.no_grad():
        for weight in model.box_head.parameters():
            weight.mul_(0.1)  # so that boxes lie about the image
    model.save_pretrained(folder)
    Owlv2ImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    _write_clip_tokenizer(folder)
    return folder
