import { type Identities, parseIdentities } from "../auth/mtls-identities.ts";
import type { Closer } from "../closer.ts";
import type { Config } from "../config.ts";
import type { Logger } from "../logger.ts";
import { startLoop } from "../loop.ts";
import { isLoopback } from "../loopback.ts";
import { type Telemetry, value } from "../telemetry.ts";
import { RereadFiles } from "./reread-files.ts";
import type { TlsFiles } from "./tls-front.ts";
import { readTlsMaterial } from "./tls-material.ts";

export interface OpenTls {
	/** If the ports speak TLS. */
	readonly files: TlsFiles | undefined;
	/** Who is who, at this moment, if clients are asked for certificates. */
	readonly identities: (() => Identities) | undefined;
	/** Looks at the files at once. */
	reload(): void;
}

/** How long files may have changed before that is seen. */
const FILES_MS = 10_000;

/** Reads the files of TLS, now and again and again. @throws Error if one of them is of no use */
export async function openTls(
	{ tls, host }: Pick<Config, "tls" | "host">,
	{ logger, telemetry, closer }: { logger: Logger; telemetry: Telemetry; closer: Closer },
): Promise<OpenTls> {
	let shown: TlsFiles | undefined;
	telemetry.gauge("audit_tls_certificate_expires_seconds", () =>
		shown ? value((shown.value.validTo - Date.now()) / 1000) : [],
	);
	if (!tls) {
		if (!isLoopback(host))
			logger.warn({ host }, "the ports are not encrypted: set TLS_CERT_FILE, or let a proxy see to it");
		return { files: undefined, identities: undefined, reload() {} };
	}
	const { certFile, keyFile, clients } = tls;
	const paths = [certFile, keyFile, ...(clients ? [clients.caFile] : [])];
	const files = await RereadFiles.open({ paths, parse: readTlsMaterial, logger });
	const parse = ([text = ""]: readonly string[]) => parseIdentities(text);
	const identities = clients && (await RereadFiles.open({ paths: [clients.identitiesFile], parse, logger }));
	shown = files;
	const reread = async () => void (await Promise.all([files.reread(), identities?.reread()]));
	const loop = closer.add(startLoop("files", FILES_MS, logger, reread), (l) => l.close());
	return { files, identities: identities && (() => identities.value), reload: () => loop.nudge() };
}
