import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";

/** What of docker-compose.yml the tests look at. */
export interface Compose {
	readonly services: Readonly<Record<string, ComposeService>>;
	readonly secrets: Readonly<Record<string, { file: string }>>;
	readonly volumes: Readonly<Record<string, unknown>>;
}

export interface ComposeService {
	readonly image: string;
	readonly build?: string;
	readonly command?: readonly string[];
	readonly environment?: Readonly<Record<string, string>>;
	readonly secrets?: readonly (string | { source: string; target: string })[];
	readonly volumes?: readonly string[];
	readonly ports?: readonly string[];
	readonly depends_on?: Readonly<Record<string, { condition: string }>>;
	readonly healthcheck?: { test: readonly string[] };
	readonly stop_grace_period?: string;
	readonly restart?: string;
	readonly read_only?: boolean;
	readonly tmpfs?: readonly string[];
	readonly cap_drop?: readonly string[];
	readonly security_opt?: readonly string[];
}

/** Reads the file as Compose does where nothing is set outside of it: `${NAME:-default}` is the default. */
export function readCompose(root: string): Compose {
	const text = readFileSync(join(root, "docker-compose.yml"), "utf8");
	const interpolated = (_: unknown, value: unknown) =>
		typeof value === "string" ? value.replace(/\$\{\w+:-([^}]*)\}/g, "$1") : value;
	return parse(text, interpolated, { merge: true }) as Compose;
}

/** The files a service finds under /run/secrets: name there → path in the clone. */
export function secretFiles({ secrets }: Compose, service: ComposeService): Record<string, string> {
	const files = (service.secrets ?? []).map((secret) => {
		const { source, target } = typeof secret === "string" ? { source: secret, target: secret } : secret;
		return [target, secrets[source]?.file ?? `undeclared secret ${source}`];
	});
	return Object.fromEntries(files) as Record<string, string>;
}
