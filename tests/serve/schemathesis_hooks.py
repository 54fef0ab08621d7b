"""Keeps what schemathesis asks for short: a model computes each token."""

import schemathesis

LIMITS = {"max_tokens": 3, "max_completion_tokens": 3, "n": 2}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.operation.label not in ("POST /v1/chat/completions", "POST /v1/completions"):
        return
    if not isinstance(case.body, dict):
        return
    for field, most in LIMITS.items():
        value = case.body.get(field)
        if type(value) in (int, float) and value > most and value < 2**31:  # a bool is no number
            case.body[field] = most
    if case.body.get("max_tokens") is None and case.body.get("max_completion_tokens") is None:
        case.body["max_tokens"] = LIMITS["max_tokens"]
