import { createHash } from "node:crypto";

/** An event as REST answers it. */
type Json = Readonly<Record<string, unknown>>;

/**
 * The leaf of an event that REST answered, by what docs/masking.md says and by nothing of our own code: for tests to show that
 * others can compute it.
 */
export function leafByHand(event: Json): string {
	const integrity = event["integrity"] as Json;
	const { door } = integrity["recorded_by"] as { door: string };
	const of = (...names: string[]) => Object.fromEntries(names.filter((n) => n in event).map((n) => [n, event[n]]));
	const values: Record<string, unknown> = {
		actor: of("actor", "on_behalf_of"),
		changes: event["changes"],
		context: event["context"],
		description: event["description"],
		facts: {
			...of("category", "outcome", "retention_class", "schema_version", "severity", "source"),
			recorded_by: integrity["recorded_by"],
		},
		metadata: event["metadata"],
		reason: of("outcome_reason", "reason"),
		resources: of("primary_resource", "related_resources"),
	};
	for (const name of ["actor", "reason", "resources"]) {
		if (Object.keys(values[name] as Json).length === 0) values[name] = undefined;
	}
	const masked = new Map(
		((integrity["masked_units"] ?? []) as { unit: string; commitment: string }[]).map(({ unit, commitment }) => {
			return [unit.replace("UNIT_", "").toLowerCase(), Buffer.from(commitment, "base64")];
		}),
	);
	const salts = Buffer.from(integrity["salts"] as string, "base64");
	const units: Buffer[] = [];
	let shown = 0;
	for (const [name, value] of Object.entries(values)) {
		let commitment: Buffer | undefined = masked.get(name);
		if (value !== undefined) {
			const salt = salts.subarray(16 * shown, 16 * ++shown);
			commitment = sha256("AL1u", salt, byte(name.length), name, sorted(value));
		}
		if (commitment) units.push(bytes(byte(name === "facts" ? 0 : 1), byte(name.length), name, commitment));
	}
	const action = event["action"] as string;
	return sha256(
		byte(0),
		byte(1),
		byte(door === "service" ? 2 : 1),
		Buffer.from((event["id"] as string).replaceAll("-", ""), "hex"),
		micros(event["recorded_at"] as string),
		micros(event["occurred_at"] as string),
		byte(action.length),
		action,
		byte(units.length),
		...units,
	).toString("base64");
}

function bytes(...parts: readonly (string | Buffer)[]): Buffer {
	return Buffer.concat(parts.map((part) => Buffer.from(part as string)));
}

function sha256(...parts: readonly (string | Buffer)[]): Buffer {
	return createHash("sha256")
		.update(bytes(...parts))
		.digest();
}

function byte(value: number): Buffer {
	return Buffer.from([value]);
}

function micros(time: string): Buffer {
	const eight = Buffer.alloc(8);
	eight.writeBigInt64BE(BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1000n + BigInt(time.slice(20, 26)));
	return eight;
}

/** RFC 8785, for what JSON.stringify does not do by itself: the order of members. */
function sorted(value: unknown): string {
	if (Array.isArray(value)) return `[${value.map(sorted).join(",")}]`;
	if (typeof value !== "object" || value === null) return JSON.stringify(value);
	const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
	return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${sorted(member)}`).join(",")}}`;
}
