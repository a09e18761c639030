import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromJson } from "@bufbuild/protobuf";
import { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { encodeInput, replay } from "./case.ts";

/**
 * Adds a case to the corpus: node test/corpus/record.ts NAME < event.json
 * The event must bring its id (or idempotency key) and time, so that it can be repeated. An existing case is never
 * written over.
 */
const [name] = process.argv.slice(2);
if (!name || !/^[a-z0-9-]+$/.test(name)) throw new Error("usage: node test/corpus/record.ts NAME < event.json");
const event = fromJson(EventSchema, JSON.parse(readFileSync(0, "utf8")));
const salts = Buffer.concat([0, 1, 2, 3].map((n) => createHash("sha256").update(`${name}/${n}`).digest())).toString("base64");
const given = { input: encodeInput(event), now: "1790000000123456", door: "rpc", key_id: "0123456789ab", salts } as const;
const file = join(import.meta.dirname, "v1", `${name}.json`);
writeFileSync(file, `${JSON.stringify(replay(given), undefined, "\t")}\n`, { flag: "wx" });
