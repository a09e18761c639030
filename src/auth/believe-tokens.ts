import type { Closer } from "../closer.ts";
import type { Logger } from "../logger.ts";
import { startLoop } from "../loop.ts";
import { type Telemetry, value } from "../telemetry.ts";
import { JwtVerifier } from "./jwt.ts";
import type { JwtSettings } from "./jwt-settings.ts";
import type { DerivedKeys } from "./secret.ts";
import { KEY_TIMES, onlyKey, RemoteTokenKeys } from "./token-keys.ts";

export interface BelieveTokensOptions {
	readonly keys: DerivedKeys;
	readonly logger: Logger;
	readonly telemetry: Telemetry;
	readonly closer: Closer;
}

/** Checks tokens as the settings say, with the issuer's keys as they are from now on; without settings it believes none. */
export function believeTokens(
	settings: JwtSettings | undefined,
	{ keys, logger, telemetry, closer }: BelieveTokensOptions,
): JwtVerifier | undefined {
	const remote = settings?.keys instanceof URL ? new RemoteTokenKeys({ url: settings.keys, logger }) : undefined;
	telemetry.gauge("audit_token_keys_age_seconds", () => {
		const ageMs = remote?.ageMs();
		return ageMs === undefined ? [] : value(ageMs / 1000);
	});
	if (remote) {
		// Not waited for: an issuer that is slow must not hold up our end.
		const refresh = () => Promise.resolve(void remote.refresh());
		closer.add(startLoop("token keys", KEY_TIMES.refresh, logger, refresh), (loop) => loop.close());
	}
	if (!settings) return undefined;
	const tokenKeys = settings.keys instanceof URL ? remote : onlyKey(settings.keys);
	return tokenKeys && new JwtVerifier({ settings, tokenKeys, keys });
}
