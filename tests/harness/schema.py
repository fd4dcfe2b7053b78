"""As much of JSON Schema 2020-12 as Berth's contracts use; a word that is not known here is an error."""

import re
from typing import Any

KINDS = {
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value == int(value),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
# These say something to people alone.
WORDS = {"description", "examples", "contentEncoding"}


def same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def wrong(document: dict, schema: dict, value: Any, at: str = "$") -> str | None:
    """What is wrong with `value`, or nothing."""
    for word, rule in schema.items():
        if word not in WORDS and (found := check(document, (word, rule), schema, (value, at))):
            return found
    return None


def check(document: dict, said: tuple[str, Any], schema: dict, judged: tuple[Any, str]) -> str | None:
    (word, rule), (value, at) = said, judged

    def each(parts: list) -> str | None:
        return next((found for part in parts if (found := wrong(document, *part))), None)

    match word:
        case "$ref":
            return wrong(document, resolve(document, rule), value, at)
        case "type":
            kinds = [rule] if isinstance(rule, str) else rule
            return None if any(KINDS[kind](value) for kind in kinds) else f"{at}: {value!r} is not {rule}"
        case "const":
            return None if same(value, rule) else f"{at}: {value!r} is not {rule!r}"
        case "enum":
            return None if any(same(value, one) for one in rule) else f"{at}: {value!r} is none of {rule!r}"
        case "anyOf" | "oneOf":
            faults = [wrong(document, option, value, at) for option in rule]
            fits = faults.count(None)
            return None if fits == 1 or (fits and word == "anyOf") else f"{at}: fits {fits} of {word}: {faults}"
        case "minimum":
            return None if not KINDS["number"](value) or value >= rule else f"{at}: {value} < {rule}"
        case "maximum":
            return None if not KINDS["number"](value) or value <= rule else f"{at}: {value} > {rule}"
        case "exclusiveMinimum":
            return None if not KINDS["number"](value) or value > rule else f"{at}: {value} <= {rule}"
        case "exclusiveMaximum":
            return None if not KINDS["number"](value) or value < rule else f"{at}: {value} >= {rule}"
        case "pattern":
            return None if not isinstance(value, str) or re.search(rule, value) else f"{at}: {value!r} is not {rule}"
        case "required":
            missing = [name for name in rule if isinstance(value, dict) and name not in value]
            return f"{at}: {missing} missing" if missing else None
        case "properties":
            known = value if isinstance(value, dict) else {}
            return each([(rule[name], known[name], f"{at}.{name}") for name in rule if name in known])
        case "additionalProperties":
            others = {k: v for k, v in (value.items() if isinstance(value, dict) else ()) if k not in schema.get("properties", {})}
            if rule is False:
                return f"{at}: {list(others)} unknown" if others else None
            return each([(rule, other, f"{at}.{name}") for name, other in others.items()])
        case "items" | "prefixItems" if not isinstance(value, list):
            return None
        case "items":
            first = len(schema.get("prefixItems", []))
            return each([(rule, one, f"{at}[{index}]") for index, one in enumerate(value) if index >= first])
        case "prefixItems":
            return each([(one, value[index], f"{at}[{index}]") for index, one in enumerate(rule) if index < len(value)])
        case "minItems":
            return None if not isinstance(value, list) or len(value) >= rule else f"{at}: fewer than {rule}"
        case "maxItems":
            return None if not isinstance(value, list) or len(value) <= rule else f"{at}: more than {rule}"
    raise AssertionError(f"`{word}` is no word of JSON Schema that contracts use")


def resolve(document: dict, reference: str) -> dict:
    """What `reference` names."""
    assert reference.startswith("#/"), reference
    found = document
    for part in reference[2:].split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found
