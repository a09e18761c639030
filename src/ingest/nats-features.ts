/** From this version on a server has everything the door can use. */
const COMPLETE = { major: 2, minor: 10 };

/** Whether the server knows `sync_interval: always`. One that does not say its version is taken to be new. */
export function canSyncFirst(version: string | undefined): boolean {
	const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(version ?? "")?.map(Number) ?? [];
	if (major === undefined || minor === undefined) return true;
	return major > COMPLETE.major || (major === COMPLETE.major && minor >= COMPLETE.minor);
}

/** What the server is too old for, each with what that costs; nothing if it is new enough. For the log. */
export function shortcomingsOf(version: string | undefined): string[] {
	if (canSyncFirst(version)) return [];
	return [
		"it acknowledges before it syncs and cannot do otherwise: a power cut can lose messages that a publisher holds for safe",
		"when this service stops, a message that was given back may come again only after the consumer's ack_wait",
	];
}
