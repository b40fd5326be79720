// Live captions of a recording with Node, without generated code:
//
//   cd docs/examples && npm install && node stream.mjs FILE [HOST:PORT]
//
// Partials replace each other; what is committed of them stays. A final replaces all partials of its utterance.

import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import google from "google-proto-files"; // the contract imports google/api

const [file, server = "127.0.0.1:50051"] = process.argv.slice(2);
if (!file) {
  console.error("usage: node stream.mjs FILE [HOST:PORT]");
  process.exit(2);
}
const includeDirs = [fileURLToPath(new URL("../../proto", import.meta.url)), google.getProtoPath("..")];
const definition = loader.loadSync("asr/v1/asr.proto", { includeDirs, keepCase: true, longs: Number, defaults: true, oneofs: true });
const { asr } = grpc.loadPackageDefinition(definition);
const client = new asr.v1.AsrService(server, grpc.credentials.createInsecure());

const seconds = (ms) => (ms / 1000).toFixed(1);
const show = {
  partial: ({ partial }) => console.log(`... ${partial.committed}[${partial.tail}]`),
  final: ({ final: { segment } }) => console.log(`${seconds(segment.start_ms)} to ${seconds(segment.end_ms)} s: ${segment.text}`),
  end: ({ end }) => console.log(`${seconds(end.usage.audio_ms)} s of audio`),
};

async function* messages(chunks) {
  yield { config: {} }; // a container, recognised from its bytes
  for await (const data of chunks) yield { audio: { data } };
  yield { finish: {} };
}

function fail(error) {
  if (!process.exitCode) console.error(error.message);
  process.exitCode = 1;
}

const call = client.StreamTranscribe();
call.on("data", (event) => show[event.event]?.(event));
call.on("error", fail); // also after everything was sent
await pipeline(createReadStream(file, { highWaterMark: 4096 }), messages, call).catch(fail);
client.close();
