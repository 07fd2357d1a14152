// A reader of SigMF that shares no code with Heimdall, only the standard: the form of the metadata is checked against
// JSON Schemas, the samples against their hash, and what they say of frequency and time is found in them.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";

interface Meta {
  global: { "core:datatype": string; "core:sample_rate": number; "core:sha512": string; "core:version": string };
  captures: { "core:sample_start": number; "core:frequency": number; "core:datetime": string }[];
  annotations: { "core:sample_start": number; "core:sample_count": number; "core:comment"?: string }[];
}

export interface Reading {
  sha512: string;
  version: string;
  rate_hz: number;
  center_hz: number;
  datetime: string;
  samples: number;
  detections: number[]; // samples at which the annotations of detections begin
  peak_hz: number; // the strongest frequency
  rises: number[]; // samples at which the level goes up by half of its range
}

// The schemas lie in the folder that the program is started in.
const ajv = new Ajv2020({ allErrors: true });
const validators = ["sigmf-core.schema.json", "heimdall.sigmf-ext.schema.json"].map((name) => ({
  name,
  check: ajv.compile(JSON.parse(readFileSync(name, "utf8"))),
}));

export function readArchive(tar: Uint8Array): Reading {
  const files = untar(tar);
  const names = Object.keys(files);
  const base = names.find((name) => name.endsWith(".sigmf-meta"))?.slice(0, -".sigmf-meta".length);
  const data = files[`${base}.sigmf-data`];
  if (!base || !data) throw new Error(`no pair of files in the archive: ${names}`);
  const meta: Meta = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(files[`${base}.sigmf-meta`]));
  for (const { name, check } of validators) {
    if (!check(meta)) throw new Error(`the metadata does not keep to ${name}: ${ajv.errorsText(check.errors)}`);
  }
  const sha512 = createHash("sha512").update(data).digest("hex");
  if (sha512 !== meta.global["core:sha512"]) throw new Error(`core:sha512 is ${meta.global["core:sha512"]}, the samples have ${sha512}`);
  const [first] = meta.captures;
  if (!first || first["core:sample_start"] !== 0) throw new Error("the first capture does not begin at the first sample");
  const iq = complex(meta.global["core:datatype"], data);
  const rate = meta.global["core:sample_rate"];
  return {
    sha512,
    version: meta.global["core:version"],
    rate_hz: rate,
    center_hz: first["core:frequency"],
    datetime: first["core:datetime"],
    samples: iq.length / 2,
    detections: meta.annotations.filter((a) => a["core:comment"]?.startsWith("detection ")).map((a) => a["core:sample_start"]),
    peak_hz: first["core:frequency"] + strongest(iq, rate),
    rises: rises(iq),
  };
}

// untar takes the regular files out of a POSIX tar: blocks of 512 bytes, a header before each file.
function untar(tar: Uint8Array): Record<string, Uint8Array> {
  const files: Record<string, Uint8Array> = {};
  const text = (at: number, length: number) => new TextDecoder().decode(tar.subarray(at, at + length)).replace(/\0.*$/s, "");
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const size = parseInt(text(at + 124, 12), 8);
    const prefix = text(at + 345, 155);
    if (text(at + 156, 1) === "0") {
      files[(prefix ? `${prefix}/` : "") + text(at, 100)] = tar.subarray(at + 512, at + 512 + size);
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

// complex gives I and Q in turn, of full scale 1.
function complex(datatype: string, data: Uint8Array): Float64Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  switch (datatype) {
    case "cu8":
      return Float64Array.from(data, (code) => (code - 127.5) / 128);
    case "ci16_le":
      return Float64Array.from({ length: data.length / 2 }, (_, i) => view.getInt16(2 * i, true) / 32768);
    case "cf32_le":
      return Float64Array.from({ length: data.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }
  throw new Error(`core:datatype ${datatype} is not known here`);
}

// strongest is the frequency, from the centre, at which the first 4096 loud samples have the most power: first to what
// they can resolve, then to an eighth of it.
function strongest(iq: Float64Array, rate: number): number {
  const size = 4096;
  const loud = rises(iq)[0] ?? 0;
  const power = (bin: number) => {
    const turn = { re: Math.cos((2 * Math.PI * bin) / size), im: -Math.sin((2 * Math.PI * bin) / size) };
    let [re, im, x, y] = [0, 0, 1, 0]; // the sum, and what the next sample is turned by
    for (let n = loud; n < loud + size; n++) {
      const [i, q] = [iq[2 * n] ?? 0, iq[2 * n + 1] ?? 0];
      re += i * x - q * y;
      im += i * y + q * x;
      [x, y] = [x * turn.re - y * turn.im, x * turn.im + y * turn.re];
    }
    return re * re + im * im;
  };
  const loudest = (from: number, to: number, step: number) => {
    let best = { bin: 0, power: -1 };
    for (let bin = from; bin < to; bin += step) {
      const here = power(bin);
      if (here > best.power) best = { bin, power: here };
    }
    return best.bin;
  };
  const coarse = loudest(-size / 2, size / 2, 1);
  return (loudest(coarse - 1, coarse + 1, 1 / 8) * rate) / size;
}

// rises are the samples at which the level passes the middle of its range upwards, after being below for a while.
function rises(iq: Float64Array): number[] {
  const level = (n: number) => Math.hypot(iq[2 * n] ?? 0, iq[2 * n + 1] ?? 0);
  let highest = 0;
  for (let n = 0; n < iq.length / 2; n++) highest = Math.max(highest, level(n));
  const found: number[] = [];
  for (let n = 0, quiet = 0; n < iq.length / 2; n++) {
    if (level(n) < highest / 2) {
      quiet++;
      continue;
    }
    if (quiet > 100) found.push(n);
    quiet = 0;
  }
  return found;
}
