"""The real classes of transformers and diffusers, of a few thousand random weights each."""

import torch

TINY_VQ = {
    "embed_dim": 4,
    "num_embeddings": 32,
    "latent_channels": 32,
    "base_channels": 32,
    "channel_multiplier": [1, 1],
    "num_res_blocks": 1,
}


def build(kind):
    """A model of this kind, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _BUILDERS[kind]()


def _with_codebooks(model, name, scale):
    """Their libraries start these code books at zero, where every code is the same."""
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith(name):
            buffer.copy_(torch.randn(buffer.shape) * scale)
    return model


def _mimi():
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        hidden_size=16,
        num_filters=4,
        upsampling_ratios=[4, 3, 2, 2],
        codebook_size=16,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_quantizers=3,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
        upsample_groups=16,
        sliding_window=20,
    )
    return _with_codebooks(MimiModel(config), "embed_sum", 0.1)


def encodec(**changes):
    from transformers import EncodecConfig, EncodecModel

    fields = {
        "hidden_size": 16,
        "num_filters": 4,
        "upsampling_ratios": [5, 4, 2],
        "codebook_size": 16,
        "num_lstm_layers": 1,
        "target_bandwidths": [2.4, 7.2],
    }
    return _with_codebooks(EncodecModel(EncodecConfig(**fields | changes)), "embed", 0.05)


def _dac():
    from transformers import DacConfig, DacModel

    config = DacConfig(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 5],
        decoder_hidden_size=16,
        n_codebooks=3,
        codebook_size=16,
        codebook_dim=4,
        sampling_rate=22_050,
    )
    return DacModel(config)


def _higgs_audio_v2():
    from transformers import HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel

    strides = [8, 5, 4, 2, 3]
    acoustic = {
        "model_type": "dac",
        "encoder_hidden_size": 2,
        "downsampling_ratios": strides,
        "upsampling_ratios": strides,
        "decoder_hidden_size": 32,
        "hidden_size": 64,
    }
    semantic = {
        "model_type": "hubert",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [8] * 7,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
    }
    config = HiggsAudioV2TokenizerConfig(
        target_bandwidths=[0.1, 0.4],
        codebook_size=16,
        codebook_dim=8,
        acoustic_model_config=acoustic,
        semantic_model_config=semantic,
    )
    return _with_codebooks(HiggsAudioV2TokenizerModel(config), ".embed", 0.1)


def _vq_diffusers():
    from diffusers import VQModel

    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        num_vq_embeddings=32,
        norm_num_groups=4,
    )


def _vq_emu3():
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    config = Emu3VQVAEConfig(
        codebook_size=32,
        base_channels=32,
        channel_multiplier=[1, 1],
        num_res_blocks=1,
        attn_resolutions=[],
        hidden_size=32,
        temporal_downsample_factor=2,
    )
    return Emu3VQVAE(config)


def _vq_janus():
    from transformers import JanusVQVAE, JanusVQVAEConfig

    return JanusVQVAE(JanusVQVAEConfig(**TINY_VQ, num_patches=8))


def _vq_chameleon():
    from transformers import ChameleonVQVAE, ChameleonVQVAEConfig

    return ChameleonVQVAE(ChameleonVQVAEConfig(**TINY_VQ, resolution=16))


def whole_chameleon():
    """The language model with the image tokenizer inside, as it is published."""
    from transformers import ChameleonConfig, ChameleonForConditionalGeneration

    config = ChameleonConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        vq_config={**TINY_VQ, "resolution": 16},
        vocabulary_map={"<image>": 3},
    )
    return ChameleonForConditionalGeneration(config)


_BUILDERS = {
    "mimi": _mimi,
    "encodec": encodec,
    "dac": _dac,
    "higgs_audio_v2": _higgs_audio_v2,
    "vq_diffusers": _vq_diffusers,
    "vq_emu3": _vq_emu3,
    "vq_janus": _vq_janus,
    "vq_chameleon": _vq_chameleon,
}
