"""Templates: text with fields of a record in it.

    #{topic} #{partition} #{timestamp}    where and when (in ms) the record is in the log
    #{key}                                its key, as text
    #{key.FIELD} #{value.FIELD}           a field of a JSON key or value; dots go into nested objects
    #{header.NAME}                        a header's value, as text

With `[]` behind it a field has several values, and the template as many outcomes: the elements of a JSON array, the
parts of a header between commas. One field of a template may. A JSON text is read up to the last field that is asked
for; of members of the same name the first that leads to the field counts.

Templates are checked here and filled by the engine (`rust/engine/src/route.rs`).
"""

import re
from functools import cache
from typing import Final

__all__ = ["check_channel", "check_fields", "check_key_alone", "check_template", "may_make"]

TEMPLATE_MAX: Final = 1_000  # characters; a channel's name is shorter

PATH: Final = r"[^\s.{}]+(?:\.[^\s.{}]+)*"
FIELD: Final = re.compile(rf"topic|partition|timestamp|key|header\.[^\s{{}}]+|(?:key|value)\.{PATH}")
PLACEHOLDER: Final = re.compile(r"#\{([^{}]*)\}")


def check_template(template: str, *, several: bool = False) -> None:
    """Raises ValueError that says what would be right. Only with `several` may a field be `[]`."""
    if not template:
        raise ValueError("it is empty; give text, like orders:#{key}")
    if len(template) > TEMPLATE_MAX:
        raise ValueError(f"it is too long; give at most {TEMPLATE_MAX} characters")
    fields = PLACEHOLDER.findall(template)
    for field in fields:
        if FIELD.fullmatch(field) is None or ".[]" in field or "[]" in field[:-2]:
            raise ValueError(
                f"'#{{{field}}}' in '{template}' is no field of a record; there are #{{topic}}, #{{partition}}, "
                "#{timestamp}, #{key}, #{key.FIELD}, #{header.NAME} and #{value.FIELD}"
            )
    if "#{" in PLACEHOLDER.sub("", template):
        raise ValueError(f"'{template}' opens a field and does not close it; write it like #{{key}}")
    check_fields(template)
    lists = [field for field in fields if field.endswith("[]")]
    if lists and not several:
        raise ValueError(f"'#{{{lists[0]}}}' in '{template}' has several values; only a channel's template may")
    if len(lists) > 1:
        raise ValueError(f"'{template}' has two fields with several values; one may")


def check_channel(template: str) -> None:
    """Raises ValueError for a template of which no channel's name can come (`is_channel_name` in the engine)."""
    check_template(template, several=True)
    texts = PLACEHOLDER.split(template)[::2]
    if texts[0].startswith((":", "[")):
        raise ValueError(f"'{template}' begins with {texts[0][0]}, and no channel does; begin with a letter")
    if any(character in text for text in texts for character in "\n\r\0"):
        raise ValueError(f"{template!r} holds a line break or a NUL, and no channel does; write it on one line")


def check_fields(*templates: str, is_key_json: bool = False) -> None:
    """Raises ValueError if templates of one rule ask for a field as text, and for what is in it, too.

    `is_key_json` says whether the key as a whole is JSON, of which `#{key}` is the text.
    """
    fields = {field for template in templates for field in PLACEHOLDER.findall(template)}
    paths = sorted(f for f in fields if f.startswith(("key.", "value.")) or (is_key_json and f == "key"))
    for path in paths:
        base = path.removesuffix("[]")
        if any(other.startswith(base + ".") or other == base + "[]" != path for other in paths):
            where = next(template for template in templates if f"#{{{path}}}" in template)
            raise ValueError(f"'{path}' in '{where}' cannot be text and something else")


def check_key_alone(template: str, *, is_key_json: bool) -> None:
    """Raises ValueError if what the template makes does not tell the record's key, from which its partition follows."""
    fields = [field for field in PLACEHOLDER.findall(template) if field != "topic"]
    if fields != ["key"]:
        raise ValueError(f"'{template}' does not tell the key; give text and one #{{key}}, or no partitioner")
    if is_key_json:
        raise ValueError("the partition follows from the key's bytes, and it is read as JSON; give it no format")


def may_make(template: str, topic: str, text: str) -> bool:
    """Whether there may be a record of the topic that the template makes `text` of."""
    first, *others = _texts(template, topic)
    if not others:
        return text == first
    *middle, last = others
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:  # each as early as can be: then there is most room for the next
        at = text.find(part, at, end) + len(part)
        if at < len(part):
            return False
    return True


@cache
def _texts(template: str, topic: str) -> list[str]:
    """What stands between the fields of a template, and before and behind them."""
    return PLACEHOLDER.split(template.replace("#{topic}", topic))[::2]
