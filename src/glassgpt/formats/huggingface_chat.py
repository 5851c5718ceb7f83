"""Chat templates as transformers keeps them: a Jinja program beside the tokenizer."""

import json
from collections.abc import Mapping
from typing import Any

from glassgpt.finetune import ANSWERING, CHATML, ROLES, Template
from glassgpt.tokenizer import Tokenizer

CHAT_TEMPLATE, TOKENIZER_SETTINGS = "chat_template.jinja", "tokenizer_config.json"


def speaks_chatml(tokenizer: Tokenizer, companions: Mapping[str, Any]) -> bool:
    """Whether a chat template comes with the model, and is the one that is known here."""
    written = companions.get(CHAT_TEMPLATE) or companions.get(TOKENIZER_SETTINGS, {}).get("chat_template")
    return CHATML.fits(tokenizer) and all(name in str(written) for name in CHATML.specials)


def chat_template(template: Template | None, tokenizer: Tokenizer, companions: Mapping[str, Any]) -> str | None:
    """The program to write: the one that the model came with where it still speaks so, else its template's."""
    if template is None or speaks_chatml(tokenizer, companions):
        return companions.get(CHAT_TEMPLATE)
    return jinja_of(template)


def jinja_of(template: Template) -> str:
    """The same for transformers' `apply_chat_template`, which turns the names of special tokens into their ids."""
    cases = [
        f"{{%- {'if' if role == ROLES[0] else 'elif'} message['role'] == '{role}' -%}}"
        f"{{{{ {json.dumps(template.before[role])} + message['content'] + {json.dumps(template.after[role])} }}}}"
        for role in ROLES
    ]
    prompt = f"{{%- if add_generation_prompt -%}}{{{{ {json.dumps(template.before[ANSWERING])} }}}}{{%- endif -%}}"
    return "{%- for message in messages -%}" + "".join(cases) + "{%- endif -%}{%- endfor -%}" + prompt
