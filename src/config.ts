import { readFileSync } from "node:fs";
import { JWT_SETTINGS, type JwtSettings, readJwtSettings } from "./auth/jwt-settings.ts";
import {
	contradictionsIn,
	type NatsAccess,
	parseCertificateFile,
	parseCredsFile,
	parseKeyFile,
	readNatsUrl,
} from "./nats-access.ts";
import { type Network, parseNetworks, parseOrigins } from "./rpc/network-settings.ts";
import { RATE_SETTINGS, type RateSettings, readRates } from "./rpc/rate-settings.ts";
import { readTlsSettings, TLS_SETTINGS, type TlsSettings } from "./rpc/tls-settings.ts";

/** The service's settings, checked and complete. */
export interface Config {
	/** PostgreSQL, as the service reaches it. User and password in it are used by `migrate` alone. */
	readonly databaseUrl: string;
	/** NATS, or undefined: then the service runs without that door. */
	readonly nats: NatsAccess | undefined;
	readonly host: string;
	readonly httpPort: Port;
	readonly grpcPort: Port;
	readonly dataDir: string;
	readonly logLevel: string;
	/** The root secret all keys are derived from (`auth/secret.ts`). */
	readonly secret: string;
	/** Whether the first write to an unknown tenant creates it. */
	readonly autoCreateTenants: boolean;
	/** What tokens are believed; undefined: none. */
	readonly jwt: JwtSettings | undefined;
	/** How the ports are encrypted; undefined: not at all. */
	readonly tls: TlsSettings | undefined;
	readonly limits: {
		/** The most connections at one time, and the most of one address. */
		readonly connections: number;
		readonly connectionsPerAddress: number;
		/** The most open streams of one key, and of the keys of one tenant together. */
		readonly keyStreams: number;
		readonly tenantStreams: number;
		/** What a key and a tenant may ask for in a second. */
		readonly rates: RateSettings;
		/** From the order to stop until calls in flight are cut off. */
		readonly drainMs: number;
		/** From the order to stop until new connections are refused. */
		readonly noticeMs: number;
	};
	/** The proxies whose word is taken for where a request comes from. */
	readonly trustedProxies: readonly Network[];
	/** The origins whose web pages may call. */
	readonly corsOrigins: readonly string[];
	/** Names beginning AUDIT_ that mean nothing, to warn about. */
	readonly unknownNames: readonly string[];
}

export interface Port {
	readonly number: number;
	/** Set by the operator: then a taken port is an error and never replaced. */
	readonly explicit: boolean;
}

interface Setting<T> {
	readonly doc: string;
	/** Absent: the setting is required unless `optional`. */
	readonly fallback?: string;
	readonly optional?: true;
	/** May be given as a file: NAME_FILE. */
	readonly secret?: true;
	/** Returns the value or throws an Error whose message says what is allowed. */
	readonly parse: (text: string) => T;
}

/** Every setting there is: the one table that parser, documentation and tests read. */
export const SETTINGS = {
	DATABASE_URL: {
		doc: "PostgreSQL 15 or newer. Its user and password are used by `auditlog migrate` alone (a superuser's, or an owner's with CREATEROLE); the service connects as its own roles.",
		secret: true,
		parse: parseUrl("postgres:", "postgresql:"),
	},
	NATS_URL: {
		doc: "NATS with JetStream: `nats://` or `tls://`, several servers separated by commas, user and password or a token in the first. Without it the service runs without that door.",
		optional: true,
		secret: true,
		parse: parseNatsUrl,
	},
	NATS_CREDS_FILE: {
		doc: "Who the service is for NATS, instead of a user in NATS_URL: a `.creds` file (JWT and NKey), or one with the seed of an NKey alone. Read anew at every connection, as the three below.",
		optional: true,
		parse: parseCredsFile,
	},
	NATS_CA_FILE: {
		doc: "Certificates (PEM) of the authorities that are believed for NATS, instead of the well-known ones. Given: TLS or nothing.",
		optional: true,
		parse: parseCertificateFile,
	},
	NATS_CERT_FILE: {
		doc: "The service's own certificate (PEM), for a NATS that asks for one. Given: TLS or nothing.",
		optional: true,
		parse: parseCertificateFile,
	},
	NATS_KEY_FILE: { doc: "The key of that certificate (PEM).", optional: true, parse: parseKeyFile },
	HOST: { doc: "The address to listen on.", fallback: "127.0.0.1", parse: (text) => text },
	HTTP_PORT: { doc: "Connect, gRPC-Web, gRPC, REST. 0 takes a free port.", fallback: "8080", parse: parsePort },
	GRPC_PORT: { doc: "gRPC (HTTP/2 only). 0 takes a free port.", fallback: "50051", parse: parsePort },
	DATA_DIR: { doc: "Where `make run` keeps its data.", fallback: ".data", parse: (text) => text },
	NATS_SERVER_BIN: {
		doc: "For `make run` and the tests: the nats-server to start, instead of an installed or fetched one.",
		optional: true,
		parse: (text) => text,
	},
	XDG_CACHE_HOME: {
		doc: "For `make run` and the tests: where a fetched nats-server is kept. Default: ~/.cache.",
		optional: true,
		parse: (text) => text,
	},
	LOG_LEVEL: {
		doc: "trace, debug, info, warn, error or silent.",
		fallback: "info",
		parse: parseOneOf("trace", "debug", "info", "warn", "error", "silent"),
	},
	AUDIT_SECRET: {
		doc: "The root secret: at least 32 characters of good randomness. The keys for page tokens, ids, API keys, content MACs, manifests and database roles are derived from it. Losing it means that retries and manifests can no longer be checked.",
		secret: true,
		parse: parseSecret,
	},
	AUDIT_AUTO_CREATE_TENANTS: {
		doc: "Whether the first write to an unknown tenant creates it: true or false.",
		fallback: "false",
		parse: parseBoolean,
	},
	...JWT_SETTINGS,
	...TLS_SETTINGS,
	AUDIT_MAX_CONNECTIONS: {
		doc: "The most connections at one time, on both ports together. One more is closed at once.",
		fallback: "2000",
		parse: parseCount(1, 1_000_000),
	},
	AUDIT_MAX_CONNECTIONS_PER_ADDRESS: {
		doc: "The most of them from one address (IPv6: from one /64). Behind a proxy, whose address all of them have, as many as AUDIT_MAX_CONNECTIONS.",
		fallback: "1000",
		parse: parseCount(1, 1_000_000),
	},
	...RATE_SETTINGS,
	AUDIT_KEY_STREAMS: {
		doc: "The most streams one key may have open at one time, in each process.",
		fallback: "100",
		parse: parseCount(1, 1_000_000),
	},
	AUDIT_TENANT_STREAMS: {
		doc: "The most of the keys of one tenant together; keys for several tenants count by themselves alone.",
		fallback: "500",
		parse: parseCount(1, 1_000_000),
	},
	AUDIT_TRUSTED_PROXIES: {
		doc: "The proxies that are believed what they say in X-Forwarded-For or Forwarded (one of the two; if both come they must agree): addresses and CIDRs, separated by commas. The client is the rightmost address that is none of theirs: log lines and the share of calls per address go by it. Without one, both headers are ignored.",
		optional: true,
		parse: parseNetworks,
	},
	AUDIT_CORS_ORIGINS: {
		doc: "The origins whose web pages may call the service, such as https://audit.example.com, separated by commas; no wildcard. Pages of any other origin are refused, but those of the service's own host and port.",
		optional: true,
		parse: parseOrigins,
	},
	AUDIT_DRAIN_MS: {
		doc: "How many milliseconds after SIGTERM the calls in flight are cut off. The container's own time to stop must be longer by some seconds.",
		fallback: "8000",
		parse: parseCount(0, 3_600_000),
	},
	AUDIT_DRAIN_NOTICE_MS: {
		doc: "For how many of these milliseconds new connections are still taken, while /readyz says 503: a load balancer's time to look elsewhere. Without one, 0.",
		fallback: "2000",
		parse: parseCount(0, 3_600_000),
	},
} as const satisfies Record<string, Setting<unknown>>;

type SettingName = keyof typeof SETTINGS;
export type Environment = Readonly<Record<string, string | undefined>>;

/** The process's own environment: the only place it is read. */
export function processEnvironment(): Environment {
	return process.env;
}

/** Reads the settings from an environment. Throws one Error that names every problem at once. */
export function loadConfig(env: Environment): Config {
	const { read, problems } = reader(env);
	const config = {
		databaseUrl: read<string>("DATABASE_URL") as string,
		nats: readNats(read, problems),
		host: read<string>("HOST") as string,
		httpPort: { number: read<number>("HTTP_PORT") as number, explicit: given(env, "HTTP_PORT") !== undefined },
		grpcPort: { number: read<number>("GRPC_PORT") as number, explicit: given(env, "GRPC_PORT") !== undefined },
		dataDir: read<string>("DATA_DIR") as string,
		logLevel: read<string>("LOG_LEVEL") as string,
		secret: read<string>("AUDIT_SECRET") as string,
		autoCreateTenants: read<boolean>("AUDIT_AUTO_CREATE_TENANTS") as boolean,
		jwt: readJwtSettings(read, problems),
		tls: readTlsSettings(read, problems),
		limits: {
			connections: read<number>("AUDIT_MAX_CONNECTIONS") as number,
			connectionsPerAddress: read<number>("AUDIT_MAX_CONNECTIONS_PER_ADDRESS") as number,
			keyStreams: read<number>("AUDIT_KEY_STREAMS") as number,
			tenantStreams: read<number>("AUDIT_TENANT_STREAMS") as number,
			rates: readRates(read),
			drainMs: read<number>("AUDIT_DRAIN_MS") as number,
			noticeMs: read<number>("AUDIT_DRAIN_NOTICE_MS") as number,
		},
		trustedProxies: read<readonly Network[]>("AUDIT_TRUSTED_PROXIES") ?? [],
		corsOrigins: read<readonly string[]>("AUDIT_CORS_ORIGINS") ?? [],
		unknownNames: Object.keys(env).filter(isUnknown),
	};
	complainOf(problems);
	return Object.freeze(config);
}

type Read = <T>(name: SettingName) => T | undefined;

/** Reads setting by setting, and gathers what is wrong. */
function reader(env: Environment): { read: Read; problems: string[] } {
	const problems: string[] = [];
	const read = <T>(name: SettingName): T | undefined => {
		const setting: Setting<unknown> = SETTINGS[name];
		try {
			const text = given(env, name) ?? setting.fallback;
			if (text !== undefined) return setting.parse(text) as T;
			if (!setting.optional) problems.push(`${name} is required: ${setting.doc}`);
		} catch (error) {
			problems.push(`${name}: ${(error as Error).message}`);
		}
		return undefined;
	};
	return { read, problems };
}

function complainOf(problems: readonly string[]): void {
	if (problems.length === 0) return;
	throw new Error(`the configuration has ${problems.length} problem(s):\n  ${problems.join("\n  ")}`);
}

/**
 * How an environment says to reach NATS: what `auditlog import` has in common with the service.
 *
 * @throws one Error that names every problem
 */
export function loadNatsAccess(env: Environment): NatsAccess | undefined {
	const { read, problems } = reader(env);
	const access = readNats(read, problems);
	complainOf(problems);
	return access;
}

function readNats(read: Read, problems: string[]): NatsAccess | undefined {
	const before = problems.length;
	const [url, credsFile, caFile] = [
		read<string>("NATS_URL"),
		read<string>("NATS_CREDS_FILE"),
		read<string>("NATS_CA_FILE"),
	];
	const [certFile, keyFile] = [read<string>("NATS_CERT_FILE"), read<string>("NATS_KEY_FILE")];
	if (url === undefined || problems.length > before) return undefined;
	const access = { url, credsFile, caFile, certFile, keyFile };
	problems.push(...contradictionsIn(access).map(([name, what]) => `${name}: ${what}`));
	return access;
}

/** One setting as it stands in an environment, fit to be shown: nothing secret is in it. */
export interface ShownSetting {
	readonly name: string;
	/** Empty where it is not set. */
	readonly value: string;
	readonly from: "environment" | "file" | "default" | "not set";
	/** What is wrong with it; undefined: nothing. */
	readonly problem: string | undefined;
}

/** Every setting there is, as `loadConfig` would read it. */
export function showSettings(env: Environment): ShownSetting[] {
	const together = problemsTogether(env);
	const problemWith = (name: string) => together.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
	return showEach(env).map((shown) => ({ ...shown, problem: shown.problem ?? problemWith(shown.name) }));
}

/** What is wrong with all of them together, a line for each thing. */
function problemsTogether(env: Environment): string[] {
	try {
		loadConfig(env);
		return [];
	} catch (error) {
		return (error as Error).message.split("\n").map((line) => line.trim());
	}
}

function showEach(env: Environment): ShownSetting[] {
	return Object.keys(SETTINGS).map((key) => {
		const name = key as SettingName;
		const setting: Setting<unknown> = SETTINGS[name];
		try {
			const text = given(env, name);
			const shown = text ?? setting.fallback;
			if (shown === undefined)
				return { name, value: "", from: "not set", problem: setting.optional ? undefined : "is required" };
			const from = text === undefined ? "default" : env[name] ? "environment" : "file";
			return { name, value: setting.secret ? redacted(shown) : shown, from, problem: problemOf(setting, shown) };
		} catch (error) {
			return { name, value: "", from: env[name] ? "environment" : "file", problem: (error as Error).message };
		}
	});
}

function problemOf(setting: Setting<unknown>, text: string): string | undefined {
	try {
		setting.parse(text);
		return undefined;
	} catch (error) {
		return (error as Error).message;
	}
}

/** Of URLs all but user, password and parameters, where passwords may stand, too; of any other secret its length. */
function redacted(secret: string): string {
	const shown = secret.split(",").map(publicPart);
	return shown.includes(undefined) ? `(${secret.length} characters)` : shown.join(",");
}

function publicPart(url: string): string | undefined {
	if (!URL.canParse(url)) return undefined;
	const { protocol, host, pathname } = new URL(url);
	// A password with a slash in it that should have been written as %2F reaches into the path.
	return host === "" || pathname.includes("@") ? undefined : `${protocol}//${host}${pathname}`;
}

/** One setting as text, from NAME or (secrets) the file NAME_FILE; an empty one counts as not given. */
function given(env: Environment, name: SettingName): string | undefined {
	const setting: Setting<unknown> = SETTINGS[name];
	const file = setting.secret ? env[`${name}_FILE`] : undefined;
	if (file && env[name]) throw new Error(`give ${name} or ${name}_FILE, not both`);
	if (!file) return env[name] || undefined;
	try {
		return readFileSync(file, "utf8").trim();
	} catch (error) {
		throw new Error(`${name}_FILE cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
	}
}

function isSecretFile(name: string): boolean {
	const setting: Setting<unknown> | undefined = SETTINGS[name.replace(/_FILE$/, "") as SettingName];
	return name.endsWith("_FILE") && setting?.secret === true;
}

/** Whether a name begins as ours and means nothing. AUDIT_URL and AUDIT_KEY are the command line's. */
export function isUnknown(name: string): boolean {
	const known = name === "AUDIT_URL" || name === "AUDIT_KEY" || name in SETTINGS || isSecretFile(name);
	return name.startsWith("AUDIT_") && !known;
}

function parseUrl(...protocols: string[]) {
	return (text: string): string => {
		if (!URL.canParse(text) || !protocols.includes(new URL(text).protocol)) {
			throw new Error(`must be a URL beginning with ${protocols.map((p) => `${p}//`).join(" or ")}`);
		}
		return text;
	};
}

function parseNatsUrl(text: string): string {
	readNatsUrl(text);
	return text;
}

function parsePort(text: string): number {
	if (!/^\d{1,5}$/.test(text) || Number(text) > 65535) throw new Error("must be a port: a number from 0 to 65535");
	return Number(text);
}

function parseCount(least: number, most: number) {
	return (text: string): number => {
		const count = Number(text);
		if (!/^\d{1,15}$/.test(text) || count < least || count > most) {
			throw new Error(`must be a whole number from ${least} to ${most}`);
		}
		return count;
	};
}

function parseOneOf(...words: string[]) {
	return (text: string): string => {
		if (!words.includes(text)) throw new Error(`must be one of ${words.join(", ")}`);
		return text;
	};
}

function parseBoolean(text: string): boolean {
	if (text !== "true" && text !== "false") throw new Error("must be true or false");
	return text === "true";
}

function parseSecret(text: string): string {
	if (text.length < 32) throw new Error("must have at least 32 characters; make one with: openssl rand -hex 32");
	return text;
}
