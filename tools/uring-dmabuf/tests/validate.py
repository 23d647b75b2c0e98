# SPDX-License-Identifier: GPL-2.0
"""validate.py FILE SCHEMA: each of the JSON documents in FILE, one at least, is right."""

import json
import sys

import jsonschema

with open(sys.argv[1], encoding="utf-8") as f:
    text = f.read().strip()
with open(sys.argv[2], encoding="utf-8") as f:
    schema = json.load(f)
documents = 0
while text:
    document, end = json.JSONDecoder().raw_decode(text)
    jsonschema.validate(document, schema)
    text = text[end:].lstrip()
    documents += 1
sys.exit(not documents)
