// Checks an OpenAPI document against the schema of its version, and against the specification's rules that a schema cannot say.
import { readFileSync } from "node:fs";
import { createConfig, lintFromString } from "@redocly/openapi-core";
import { Validator } from "@seriousme/openapi-schema-validator";

const source = readFileSync(process.argv[2], "utf8");
const faults = [];

const validator = new Validator();
const checked = await validator.validate(JSON.parse(source));
if (!checked.valid) faults.push(...[checked.errors].flat().map((e) => `${e.instancePath ?? ""}: ${e.message ?? e}`));
if (validator.version !== "3.1") faults.push(`it was read as version ${validator.version}`);

const config = await createConfig({ extends: ["spec"] });
for (const p of await lintFromString({ source, config, absoluteRef: process.argv[2] })) {
  faults.push(`${p.location?.[0]?.pointer ?? ""}: ${p.message} (${p.ruleId})`);
}
console.log(faults.join("\n"));
process.exit(faults.length === 0 ? 0 : 1);
