import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { JsonObject } from "@bufbuild/protobuf";

export const REAL_FILE = join(import.meta.dirname, "../../fixtures/cloudtrail.ndjson.gz");

/** The 2,900 real CloudTrail records of the fixture. */
export function realRecords(): JsonObject[] {
	const lines = gunzipSync(readFileSync(REAL_FILE)).toString("utf8").trim().split("\n");
	return lines.map((line) => JSON.parse(line) as JsonObject);
}
