import { parseArgs } from "node:util";
import { createAuditClient } from "../src/client/index.ts";
import { Closer } from "../src/closer.ts";
import { BlockCounter } from "./blocks.ts";
import { countBlocks } from "./read-blocks.ts";
import { DATA_FOLDER, openReadDatabase } from "./read-data.ts";
import { LARGEST } from "./read-events.ts";
import { openDatabaseAt, startService } from "./service.ts";
const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: { data: { type: "string", default: DATA_FOLDER } },
});
const closer = new Closer();
try {
	const data = await openReadDatabase(closer, Number(positionals[0]), values.data);
	const db = await openDatabaseAt(closer, data.url);
	const { text: key } = await db.makeKey("operator", LARGEST);
	const service = await startService(closer, { DATABASE_URL: data.url });
	const counter = await BlockCounter.open(closer, data.url);
	const client = createAuditClient({ url: service.url, key });
	const t = performance.now();
	for (const c of await countBlocks(client, counter, data.events))
		console.log(
			[
				c.filter,
				c.value,
				c.frequency,
				c.place,
				c.blocks.reading,
				c.blocks.recording,
				c.events,
				c.more,
				c.failed ?? "",
			].join(" | "),
		);
	console.log(performance.now() - t);
	await service.stop();
} finally {
	await closer.close();
}
