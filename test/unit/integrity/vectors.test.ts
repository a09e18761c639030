import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { commit, encodeEntry, leafHash } from "../../../src/integrity/entry.ts";
import {
	decodePayload,
	encodePayload,
	FIRST_CHAIN,
	manifestDigest,
	nextChain,
} from "../../../src/integrity/manifest.ts";

interface Golden {
	events: {
		units: { path: string; flags: number; salt: string; value: string; commit: string }[];
		entry: string;
		entry_len: number;
		leaf_hash: string;
	}[];
	batch: { payload_len: number; digest: string; chain: string };
}

const golden = JSON.parse(
	readFileSync(join(import.meta.dirname, "../../vectors/integrity/golden.json"), "utf8"),
) as Golden;
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const bytes = (text: string) => Buffer.from(text, "hex");

describe("the byte formats AL1, against vectors made by another program", () => {
	test("a unit's salt, path and value give its commitment", () => {
		for (const event of golden.events) {
			for (const unit of event.units) expect(hex(commit(unit.path, bytes(unit.salt), unit.value))).toBe(unit.commit);
		}
	});

	test("header fields and commitments give the entry, and the entry gives the leaf", () => {
		for (const event of golden.events) {
			const given = bytes(event.entry);
			const actionLength = given[34] ?? 0;
			const entry = encodeEntry({
				kind: given[1] ?? 0,
				eventId: given.subarray(2, 18),
				recordedAt: given.readBigInt64BE(18),
				occurredAt: given.readBigInt64BE(26),
				action: given.subarray(35, 35 + actionLength).toString("latin1"),
				units: event.units.map(({ path, flags, commit: commitment }) => ({
					path,
					erasable: flags === 1,
					commitment: bytes(commitment),
				})),
			});
			expect(hex(entry)).toBe(event.entry);
			expect(entry.length).toBe(event.entry_len);
			expect(hex(leafHash(entry))).toBe(event.leaf_hash);
		}
	});

	test("leaves give the manifest's payload, its digest and its link in the chain", () => {
		const leafHashes = golden.events.map((event) => bytes(event.leaf_hash));
		const payload = encodePayload([{ slot: 1n, leafHashes }]);
		expect(payload.length).toBe(golden.batch.payload_len);
		const digest = manifestDigest(7n, payload, { first: 100n, last: 102n });
		expect(hex(digest)).toBe(golden.batch.digest);
		expect(hex(nextChain(0n, FIRST_CHAIN, digest))).toBe(golden.batch.chain);
	});

	test("a payload reads back as its runs, and nothing else reads as a payload", () => {
		const leaf = (n: number) => new Uint8Array(32).fill(n);
		const runs = [
			{ slot: 0n, leafHashes: [leaf(1), leaf(2)] },
			{ slot: 5n, leafHashes: [leaf(3)] },
		];
		const payload = encodePayload(runs);
		expect(decodePayload(payload)?.map(({ slot, leafHashes }) => ({ slot, leaves: leafHashes.map(hex) }))).toEqual(
			runs.map(({ slot, leafHashes }) => ({ slot, leaves: leafHashes.map(hex) })),
		);
		expect(decodePayload(payload.subarray(0, -1))).toBeUndefined();
		expect(decodePayload(Buffer.concat([payload, leaf(0)]))).toBeUndefined();
		expect(decodePayload(encodePayload([...runs].reverse()))).toBeUndefined();
	});
});
