"""Whether JSON documents are what schemas/asyncapi.yaml describes: `asyncapi.py SCHEMA_NAME < lines`.

Prints a JSON list: for each line of stdin whether it is valid. Before that, whether the document's schemas are schemas.
"""

import json
import pathlib
import sys

import jsonschema
import yaml

document = yaml.safe_load((pathlib.Path(__file__).parents[3] / "schemas/asyncapi.yaml").read_text())
assert document["asyncapi"].startswith("3."), document["asyncapi"]
for operation in document["operations"].values():
    assert operation["channel"]["$ref"].rsplit("/", 1)[1] in document["channels"]
schema = {"$ref": f"#/components/schemas/{sys.argv[1]}", "components": document["components"]}
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
json.dump([validator.is_valid(json.loads(line)) for line in sys.stdin if line.strip()], sys.stdout)
