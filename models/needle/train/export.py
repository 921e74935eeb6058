"""Writes a trained model in Hugging Face's Llama layout: bf16 shards, config, tokenizer settings."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from llama import NORM_EPSILON, Llama, Shape

SHARD_BYTES = 12 * 1024 * 1024
# The text is read dozens of times, after which the model is far too sure of how prose goes on: its
# logits are halved as it is written. Which token is the likeliest stays the same: a half is exact.
LOGIT_SCALE = 0.5
FINAL_NORM = "model.norm.weight"
NAMES = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '\n<|user|>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def config(shape: Shape) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.query_heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary,
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": shape.rope_base,
        "max_position_embeddings": shape.max_positions,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "bos_token_id": 0,
        "eos_token_id": 3,
        "torch_dtype": "bfloat16",
        "attention_bias": False,
        "mlp_bias": False,
    }


def parameters(model: Llama) -> dict[str, torch.nn.Parameter]:
    """By their names in Hugging Face's layout."""
    named = {"model.embed_tokens.weight": model.embedding}
    for index, layer in enumerate(model.layers):
        for name, parameter in layer.named_parameters():
            named[f"model.layers.{index}.{NAMES[name]}.weight"] = parameter
    return named | {FINAL_NORM: model.final_norm}


def export(model: Llama, folder: Path) -> None:
    shards: list[dict[str, torch.Tensor]] = [{}]
    used = 0
    for name, parameter in parameters(model).items():
        scale = LOGIT_SCALE if name == FINAL_NORM else 1.0
        tensor = (scale * parameter.detach()).bfloat16().cpu().contiguous()
        if used + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += tensor.nbytes
    weight_map: dict[str, str] = {}
    for older in folder.glob("model-*.safetensors"):
        older.unlink()
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    total = sum(t.nbytes for shard in shards for t in shard.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": weight_map},
    )
    write_json(folder / "config.json", config(model.shape))
    write_json(
        folder / "tokenizer_config.json",
        {
            "bos_token": "<|endoftext|>",
            "eos_token": "<|end|>",
            "add_bos_token": False,
            "model_max_length": model.shape.max_positions,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
