// A client made of the API's description: it orders an acquisition, waits for it, downloads the recordings, and reads
// them with a reader of its own. Its output is one line of JSON a recording. client_test.go builds and runs it.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";
import { readArchive } from "./sigmf.js";

type Acquisition = components["schemas"]["Acquisition"];

const [baseUrl, frequency, duration] = process.argv.slice(2);
if (!baseUrl || !frequency || !duration) throw new Error("usage: client.js URL FREQUENCY_HZ DURATION_S");
const client = createClient<paths>({ baseUrl });

async function settled(id: string): Promise<Acquisition> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; ) {
    const { data, error } = await client.GET("/api/v1/acquisitions/{id}", { params: { path: { id } } });
    if (error) throw new Error(`acquisition ${id}: ${error.title}: ${error.detail}`);
    if (data.state !== "queued" && data.state !== "running") return data;
    await new Promise((wake) => setTimeout(wake, 100));
  }
  throw new Error(`acquisition ${id} has no result after a minute`);
}

// What is refused comes as a problem that names the field, typed too.
const refused = await client.POST("/api/v1/acquisitions", { body: { frequency_hz: Number(frequency), duration_s: -1 } });
if (refused.response.status !== 422 || refused.error?.errors?.[0]?.field !== "duration_s") {
  throw new Error(`a negative duration: ${refused.response.status} ${JSON.stringify(refused.error)}`);
}

const { data: begun, error, response } = await client.POST("/api/v1/acquisitions", {
  body: { frequency_hz: Number(frequency), duration_s: Number(duration), iq: true, label: "generated client" },
});
if (error) throw new Error(`order: ${error.title}: ${JSON.stringify(error.errors)}`);
if (response.status !== 202 || response.headers.get("Location") !== `/api/v1/acquisitions/${begun.id}`) {
  throw new Error(`order: ${response.status}, Location ${response.headers.get("Location")}`);
}
const done = await settled(begun.id);
if (done.state !== "done") throw new Error(`the acquisition ends as ${done.state}: ${JSON.stringify(done.stations)}`);

for (const station of done.stations) {
  if (!station.recording) throw new Error(`${station.station} is ${station.state} and has no recording: ${station.message}`);
  const path = { id: station.recording };
  const { data: recording, error: none } = await client.GET("/api/v1/recordings/{id}", { params: { path } });
  if (none) throw new Error(`recording ${path.id}: ${none.title}`);
  const file = await client.GET("/api/v1/recordings/{id}.sigmf", { params: { path }, parseAs: "arrayBuffer" });
  if (file.error) throw new Error(`download ${path.id}: ${file.error.title}`);
  const read = readArchive(new Uint8Array(file.data as unknown as ArrayBuffer));
  if (read.sha512 !== recording.sha512) throw new Error(`recording ${path.id} has the SHA-512 ${read.sha512}, not ${recording.sha512}`);
  console.log(JSON.stringify({ station: station.station, start: recording.start, ...read }));
}
