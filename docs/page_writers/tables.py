"""The tables within pages that a person writes: files of a run from their schemas, conventions from honestloop."""

import json
import re
from collections.abc import Iterator
from typing import Any

from honestloop import conventions, schemas
from page_writers.places import sentence

PLACE = re.compile(r"<!-- schema: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
CONVENTIONS = re.compile(r"<!-- conventions -->.*?<!-- end -->", re.DOTALL)


def run_directory_page(page: str) -> str:
    """docs/run-directory.md with the part of each file made anew from its schema; the text between is left."""
    return PLACE.sub(lambda found: "\n".join(file_entry(found[1])) + "\n<!-- end -->", page)


def conventions_table(page: str) -> str:
    """docs/conventions.md with its table made anew; the text around it is left."""
    rows = [
        f"| `{key}` | {', '.join(f'`{value}`' for value in values)} | {conventions.MEANING[key]} |"
        for key, values in conventions.LEGAL.items()
    ]
    table = "\n".join(["<!-- conventions -->", "| key | values | meaning |", "| --- | --- | --- |", *rows])
    return CONVENTIONS.sub(lambda _: f"{table}\n<!-- end -->", page)


def file_entry(name: str) -> Iterator[str]:
    """One file: its fields and an example."""
    schema = schemas.schema(name)
    yield f"<!-- schema: {name} -->"
    yield from (f"### {schema['title']}", "", sentence(schema["description"]), "")
    yield from ("| field | | meaning |", "|---|---|---|")
    for field, kind, needed, meaning in fields_of(schema):
        yield f"| `{field}` | {kind}{'' if needed else ', optional'} | {meaning} |"
    example = json.dumps(
        schema["examples"][0], indent=None if name.endswith("train_log") else 1, ensure_ascii=False
    )
    yield from (
        "",
        "<details><summary>example</summary>",
        "",
        "```json",
        example,
        "```",
        "",
        "</details>",
        "",
    )


def fields_of(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, bool, str]]:
    """(dotted name, kind, whether it must be there, meaning) of each field, those of inner objects below it."""
    for field, said in schema.get("properties", {}).items():
        needed = field in schema.get("required", ())
        inner = next((s for s in said.get("anyOf", [said]) if "properties" in s), said)
        yield f"{prefix}{field}", kind_of(said), needed, said.get("description", "").replace("|", "\\|")
        yield from fields_of(inner, f"{prefix}{field}.") if prefix.count(".") < 2 else ()


def kind_of(said: dict[str, Any]) -> str:
    """The type of a field, in a word or two."""
    if "anyOf" in said:
        return " or ".join(dict.fromkeys(kind_of(one) for one in said["anyOf"]))
    if "const" in said or "enum" in said:
        return " or ".join(f"`{one}`" for one in said.get("enum", [said.get("const")]))
    words = {"string": "text", "integer": "whole number", "array": "list", "boolean": "true or false"}
    return words.get(said.get("type", "any"), said.get("type", "any value"))
