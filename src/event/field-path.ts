/** The path of a member as errors name it: `actor.id`; names that are not plain are quoted and cut. */
export function memberPath(at: string, name: string): string {
	const plain = /^[\w-]{1,64}$/.test(name) ? name : JSON.stringify(name.slice(0, 64).toWellFormed());
	return at === "" ? plain : `${at}.${plain}`;
}

export function elementPath(at: string, index: number): string {
	return `${at}[${index}]`;
}

/** The path of something inside `at`, given its path relative to that. */
export function pathWithin(at: string, path: string): string {
	if (path === "" || at === "") return at + path;
	return path.startsWith("[") ? at + path : `${at}.${path}`;
}
