"""Renders templates as Home Assistant does for MQTT: each with value and value_json of one payload.

Reads {"payload": text, "templates": {name: template}} and prints {name: rendered}.
"""
import json
import sys

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

asked = json.load(sys.stdin)
environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
variables = {"value": asked["payload"]}
try:
    variables["value_json"] = json.loads(asked["payload"])
except ValueError:
    pass
json.dump(
    {name: environment.from_string(text).render(variables).strip() for name, text in asked["templates"].items()},
    sys.stdout,
)
