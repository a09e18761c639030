import { once } from "node:events";
import { connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { createKey } from "../support/rpc-service.ts";
import { scrape } from "../support/scrape.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, waitFor } from "../support/services.ts";

const RPC = "/audit.v1.AuditService/WriteEvent";
const BAD_KEYS = 5_000;

interface Line {
	readonly msg: string;
	readonly address: string;
	readonly call: string;
	readonly key_id?: string;
	readonly reason: string;
	readonly refused?: number;
}

test("thousands of bad keys are counted, each of them, and fill no disk; nobody else's refusal is hidden by them", async () => {
	const database = await createTestDatabase();
	const key = await createKey(database.url, "reader", ["acme"]);
	const service = await startService({ DATABASE_URL: database.url, AUDIT_TRUSTED_PROXIES: "127.0.0.1" });
	const lines = (): Line[] =>
		service.stdout
			.split("\n")
			.filter((line) => line.includes('"msg":"call'))
			.map((line) => JSON.parse(line));
	const session = connectHttp2(service.grpcUrl);
	const call = async (address: string, credential: string) => {
		const headers = { authorization: `Bearer ${credential}`, "x-forwarded-for": address };
		const stream = session.request({ ":method": "POST", ":path": RPC, "content-type": "application/json", ...headers });
		stream.end("{}");
		const [response] = (await once(stream, "response")) as [IncomingHttpHeaders];
		await text(stream);
		return response[":status"];
	};
	for (let i = 0; i < BAD_KEYS; i += 50) {
		const credential = `al_${"0".repeat(12)}_${String(i).padStart(64, "0")}`;
		const answers = await Promise.all(Array.from({ length: 50 }, () => call("203.0.113.5", credential)));
		expect(new Set(answers)).toEqual(new Set([401]));
	}
	const ofFlood = () => lines().filter(({ address }) => address === "203.0.113.5");
	const before = ofFlood().length;
	expect(await call("203.0.113.6", "none")).toBe(401);
	expect(await call("203.0.113.6", key)).toBe(403);
	// Before the interval is over, and the service closed.
	await waitFor(() => lines().filter(({ address }) => address === "203.0.113.6").length === 2);
	expect(lines().filter(({ address }) => address === "203.0.113.6")).toMatchObject([
		{ call: "WriteEvent", reason: "UNAUTHENTICATED" },
		{ call: "WriteEvent", reason: "ROLE_NOT_PERMITTED", key_id: key.split("_")[1] },
	]);
	// As many again as there were minutes, should this have taken any.
	expect(before).toBeLessThan(40);

	const metrics = await scrape(service.httpUrl);
	expect(metrics.get('audit_call_seconds_count{call="WriteEvent",code="unauthenticated"}')).toBe(BAD_KEYS + 1);
	session.destroy();
	expect(await service.stop()).toBe(0);
	const counted = ofFlood().reduce((sum, { refused = 1 }) => sum + refused, 0);
	expect(counted).toBe(BAD_KEYS);
	expect(ofFlood().at(-1)).toMatchObject({ msg: "calls refused", call: "WriteEvent", reason: "UNAUTHENTICATED" });
	await database.drop();
});
