import { parseArgs } from "node:util";
import { createAuditClient } from "../src/client/index.ts";
import { Closer } from "../src/closer.ts";
import { BlockCounter } from "./blocks.ts";
import { countBlocks } from "./read-blocks.ts";
import { DATA_FOLDER, openReadDatabase } from "./read-data.ts";
import { LARGEST } from "./read-events.ts";
import { isBounded } from "./report-read.ts";
import { openDatabaseAt, startService } from "./service.ts";

/**
 * How many blocks does each call touch today? The count of read.ts alone, on the kept database itself, for trying indexes.
 *
 *     node bench/read-count.ts [EVENTS] [--data FOLDER] [--only TEXT]        (default 1,000,000 events)
 *
 * Prints a line for each call, those with a bound of 1,000 blocks first; TEXT chooses by filter or value. Publishes nothing.
 */

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: { data: { type: "string", default: DATA_FOLDER }, only: { type: "string", default: "" } },
});
const closer = new Closer();
try {
	const { url, events } = await openReadDatabase(closer, Number(positionals[0] ?? 1_000_000), values.data);
	const { text: key } = await (await openDatabaseAt(closer, url)).makeKey("operator", LARGEST);
	const service = await startService(closer, { DATABASE_URL: url });
	const client = createAuditClient({ url: service.url, key });
	const counted = await countBlocks(client, await BlockCounter.open(closer, url), events, values.only);
	process.stdout.write("blocks  recording  events\n");
	for (const call of counted.toSorted((a, b) => Number(isBounded(b)) - Number(isBounded(a)))) {
		const { reading, recording } = call.blocks;
		const over = isBounded(call) && reading > 1_000 ? "  > 1,000" : "";
		const answer = call.failed ?? `${call.events}${call.more ? " and more" : ""}`;
		const what = [call.filter, call.value, call.frequency, call.place].filter(Boolean).join(", ");
		process.stdout.write(
			`${String(reading).padStart(6)}  ${String(recording).padStart(9)}  ${answer.padEnd(12)} ${what}${over}\n`,
		);
	}
	await service.stop();
} finally {
	await closer.close();
}
