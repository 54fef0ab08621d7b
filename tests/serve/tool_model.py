"""SmolLM2 with a chat template that has tools: its own has no place for them.

A GGUF file is a head, of which each entry is a key, a kind and a value; the tensors' data follow at the
next multiple of the alignment. Here one value is another, all the rest is copied.
"""

import shutil
import struct

STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes, by kind
ALIGNMENT = 32  # unless the file says otherwise; SmolLM2's does not
KEY = b"tokenizer.chat_template"
# The form that Hermes and Qwen2.5 were trained on.
TEMPLATE = """
{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- endif %}
{{- '\\n\\n# Tools\\n\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments ' }}
{{- 'within <tool_call></tool_call> XML tags:\\n<tool_call>\\n' }}
{{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0]['role'] == 'system' %}
{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
{%- for tool_call in message.tool_calls %}
{%- set call = tool_call.function if tool_call.function is defined else tool_call %}
{{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}{{- call.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
""".strip()


def padding(at):
    return -at % ALIGNMENT


class Reader:
    """Goes through the head, from its first entry."""

    def __init__(self, file):
        self.file = file
        magic, _, self.n_tensors, self.n_entries = struct.unpack("<4sIQQ", file.read(24))
        assert magic == b"GGUF"

    def number(self, form):
        return struct.unpack("<" + form, self.file.read(struct.calcsize("<" + form)))[0]

    def string(self):
        return self.file.read(self.number("Q"))

    def skip(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            of, n = self.number("I"), self.number("Q")
            for _ in range(n if of == STRING else 0):
                self.string()
            if of != STRING:
                self.file.seek(SIZES[of] * n, 1)
        else:
            self.file.seek(SIZES[kind], 1)


def write_tool_model(source, path):
    """Copies the model, with the template."""
    with open(source, "rb") as file, open(path, "wb") as out:
        reader = Reader(file)
        for _ in range(reader.n_entries):
            key, kind = reader.string(), reader.number("I")
            value_at = file.tell()
            reader.skip(kind)
            if key == KEY:
                begin, end = value_at, file.tell()
        for _ in range(reader.n_tensors):  # name, shape, kind, offset
            reader.string()
            file.seek(8 * reader.number("I") + 12, 1)
        head_end = file.tell()
        file.seek(0)
        head = file.read(head_end)
        template = TEMPLATE.encode()
        head = head[:begin] + struct.pack("<Q", len(template)) + template + head[end:]
        out.write(head + bytes(padding(len(head))))
        file.seek(head_end + padding(head_end))
        shutil.copyfileobj(file, out, 1 << 24)
