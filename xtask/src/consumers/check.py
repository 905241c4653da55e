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


failed = 0
valid = refused = invalid = 0
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
    except ValidationError:
        refused += 1

print(f"python: {valid - failed} of {valid} valid vectors round-tripped; {refused} of {invalid} invalid ones refused")
sys.exit(1 if failed else 0)
