/** What `/metrics` says: samples by name and labels, such as `audit_events_stored_total{door="rpc"}`. */
export async function scrape(httpUrl: string): Promise<Map<string, number>> {
	const response = await fetch(`${httpUrl}/metrics`);
	const lines = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
	return new Map(
		lines.map((line) => {
			const at = line.lastIndexOf(" ");
			return [line.slice(0, at), Number(line.slice(at + 1))];
		}),
	);
}

/** The samples whose name begins so that have moved, and by how much. */
export function moved(
	before: ReadonlyMap<string, number>,
	after: ReadonlyMap<string, number>,
	prefix: RegExp,
): Record<string, number> {
	const changes = [...after].map(([name, now]): [string, number] => [name, now - (before.get(name) ?? 0)]);
	return Object.fromEntries(changes.filter(([name, by]) => prefix.test(name) && by !== 0));
}
