#!/usr/bin/env python3
"""Writes chat.json: what Jinja makes of several conversations by each chat template, with {bos} and {eos} for the
tokenizer's tokens. Needs jinja2. The texts of llama-2, gemma, smollm2, chatml and stablelm are those of the published
tokenizer_config.json files; vicuna and phi have none and are written after FastChat's vicuna_v1.1 and Phi-2's model card."""
import json, os
import jinja2

VICUNA = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
          "and polite answers to the user's questions.")
TEMPLATES = {
    "vicuna": "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% set rest = messages[1:] %}{% else %}" + VICUNA +
    "{% set rest = messages %}{% endif %}{{ ' ' }}{% for m in rest %}{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}{% endif %}{% endfor %}{{ 'ASSISTANT:' }}",
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI "
    "assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "phi": "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + '\n' }}{% elif m['role'] == 'user' %}{{ 'Instruct: ' + m['content'] + '\n' }}"
    "{% else %}{{ 'Output: ' + m['content'] + '\n' }}{% endif %}{% endfor %}{{ 'Output:' }}",
    "stablelm": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n"
    "{% endif %}\n{% endfor %}",
    "llama-2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "gemma": "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}"
    "{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first_user_prefix = '' -%}{%- set loop_messages = messages -%}{%- endif -%}"
    "{%- for message in loop_messages -%}{%- if (message['role'] == 'assistant') -%}{%- set role = 'model' -%}{%- else -%}{%- set role = message['role'] -%}"
    "{%- endif -%}{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}",
    "none": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
}
s, u, a = "system", "user", "assistant"
CHATS = [
    [(u, "What colour is the sky on a clear day?")],
    [(s, "You are a terse assistant."), (u, "Name three fruits.")],
    [(u, "What is 12 + 30?"), (a, "42"), (u, "And twice that?")],
    [(s, " Spaces around. \n"), (u, "\n\n  Indented first line\nand a second one \n"), (a, " an answer\n"), (u, "caf\u00e9 \u4f60\u597d \U0001F600")],
    [(u, "one"), (a, "two"), (u, "three"), (a, "four"), (u, "five")],
    [(u, "")],
]


def main():
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    rows = []
    for name, text in TEMPLATES.items():
        t = env.from_string(text)
        for c in CHATS:
            m = [{"role": r, "content": x} for r, x in c]
            out = t.render(messages=m, add_generation_prompt=True, bos_token="{bos}", eos_token="{eos}")
            rows.append({"template": name, "messages": m, "text": out})
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "chat.json"), "w") as f:
        json.dump({"templates": TEMPLATES, "cases": rows}, f, indent=1)
        f.write("\n")


main()
