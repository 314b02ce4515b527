"""The page at /docs: the endpoint in one sheet without scripts, so that it needs nothing from elsewhere."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from typing import Any

from triptych.launch.serving.limits import ServingLimitsConfig

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1c2430}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .4rem}code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:#f3f5f8;padding:.8rem;overflow-x:auto;border-radius:6px}table{border-collapse:collapse;width:100%}
td{padding:.25rem .8rem .25rem 0;vertical-align:top;border-top:1px solid #e3e7ec}td:first-child{white-space:nowrap}"""
_EXAMPLES = """curl -s URL/v1/generate -H 'Content-Type: application/json' -d '{"task": "t2i", "prompt": "five"}'
curl -s URL/v1/generate -H 'Content-Type: application/json' -H 'Accept: image/png' \\
     -d '{"task": "t2i", "prompt": "five", "seed": 3, "sampling": {"num_steps": 8}}' > five.png
jq -n --arg file "$(base64 -w0 five.png)" '{task: "i2t", file: $file}' |
     curl -s URL/v1/generate -H 'Content-Type: application/json' -d @-"""


def documentation(openapi: Mapping[str, Any], limits: ServingLimitsConfig) -> str:
    """HTML of the OpenAPI description and of the limits."""
    schemas = openapi["components"]["schemas"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>triptych: the endpoint</title><style>{_STYLE}</style><h1>The HTTP endpoint</h1>",
        "<p>The same as <a href='/openapi.json'>OpenAPI</a>; <a href='/'>the page</a>.</p>",
    ]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{escape(method.upper())} {escape(path)}</h2><p>{escape(operation['description'])}</p>")
            if "requestBody" in operation:
                names = ("GenerateRequest", "SamplingRequest", "InfillRequest")
                parts += [_fields(name, schemas[name]) for name in names]
                answers = operation["responses"].items()
                parts.append("<p>Answers</p>" + _table((status, answer["description"]) for status, answer in answers))
    parts.append("<h2>Limits</h2>" + _table(asdict(limits).items()))
    parts.append(f"<h2>Examples</h2><pre>{escape(_EXAMPLES)}</pre></html>")
    return "".join(parts)


def _fields(name: str, schema: Mapping[str, Any]) -> str:
    rows = [(field, about.get("description", _kind(about))) for field, about in schema["properties"].items()]
    return f"<p><code>{escape(name)}</code>: {escape(schema.get('description', ''))}</p>" + _table(rows)


def _kind(about: Mapping[str, Any]) -> str:
    kinds = [about, *about.get("anyOf", ())]
    named = [kind["$ref"].rpartition("/")[2] for kind in kinds if "$ref" in kind]
    return ", ".join(named) or json.dumps(about.get("type", ""))


def _table(rows: Any) -> str:
    cells = "".join(f"<tr><td><code>{escape(str(a))}</code><td>{escape(str(b))}" for a, b in rows)
    return f"<table>{cells}</table>"
