"""Round-trips the vectors through the types that a generator made of the bundle.

Called with the folder of the specification, after `rap.py` was generated beside the working folder.
"""

import json
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, ".")
import rap  # noqa: E402
from pydantic import ValidationError  # noqa: E402

spec = Path(sys.argv[1])


def title(kind):
    return "OAuth" if kind == "oauth" else "".join(word.capitalize() for word in kind.split("_"))


UNKNOWN = "the generator passes over `not`: a known kind in a wrong form is read as an unknown one"
RES_02 = "the generator passes over `not`: that text and content are both absent is not seen"

# What the generated models take although the schema refuses it, and why. Anything else that is taken is a failure,
# and so is one of these that is refused: then it is no miss any more.
MISSES = {
    "invocation/not-a-number": "pydantic's JSON has NaN",
    "tool_result/both-null": RES_02,
    "tool_result/content-image-base64url": UNKNOWN,
    "tool_result/content-image-data-missing": UNKNOWN,
    "tool_result/content-image-data-url": UNKNOWN,
    "tool_result/content-image-media-type-missing": UNKNOWN,
    "tool_result/content-image-media-type-snake-case": UNKNOWN,
    "tool_result/content-image-not-base64": UNKNOWN,
    "tool_result/content-image-unpadded": UNKNOWN,
    "tool_result/content-text-in-content": UNKNOWN,
    "tool_result/content-text-missing": UNKNOWN,
    "tool_result/content-text-null": UNKNOWN,
    "tool_result/display-alone": RES_02,
    "tool_result/display-diff-as-array": UNKNOWN,
    "tool_result/display-diff-flat": UNKNOWN,
    "tool_result/display-diff-without-patch": UNKNOWN,
    "tool_result/display-diff-without-path": UNKNOWN,
    "tool_result/display-image-as-array": UNKNOWN,
    "tool_result/display-image-not-base64": UNKNOWN,
    "tool_result/display-text-in-text": UNKNOWN,
    "tool_result/display-text-object": UNKNOWN,
    "tool_result/neither-text-nor-content": RES_02,
}

failed = 0
valid = refused = invalid = 0
missed = set()
for path in sorted(spec.glob("vectors/valid/*/*.json")):
    text = path.read_text(encoding="utf-8")
    model = getattr(rap, title(path.parent.name))
    try:
        message = model.model_validate_json(text)
        written = json.loads(message.model_dump_json(exclude_unset=True, by_alias=True))
        if written != json.loads(text):
            failed += 1
            print(f"{path}: written differently: {written}")
    except ValidationError as error:
        failed += 1
        print(f"{path}: {error}")
    valid += 1

for path in sorted(spec.glob("vectors/invalid/*/*.json")):
    fault = tomllib.loads(path.with_suffix(".fault.toml").read_text(encoding="utf-8"))
    if fault.get("schema") == "accepts":
        continue
    invalid += 1
    try:
        getattr(rap, title(path.parent.name)).model_validate_json(path.read_text(encoding="utf-8"), strict=True)
        missed.add(f"{path.parent.name}/{path.stem}")
    except ValidationError:
        refused += 1

for name in sorted(missed - MISSES.keys()):
    failed += 1
    print(f"{name}: taken, though the schema refuses it")
for name in sorted(MISSES.keys() - missed):
    failed += 1
    print(f"{name}: refused, and no longer a known miss; take it off the list ({MISSES[name]})")

print(f"python: {valid - failed} of {valid} valid vectors round-tripped; {refused} of {invalid} invalid ones refused")
sys.exit(1 if failed else 0)
