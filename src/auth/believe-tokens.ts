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

/** Checks tokens as the settings say, with the issuer's keys as they are from now on. */
export function believeTokens(
	settings: JwtSettings,
	{ keys, logger, telemetry, closer }: BelieveTokensOptions,
): JwtVerifier {
	if (!(settings.keys instanceof URL)) return new JwtVerifier({ settings, tokenKeys: onlyKey(settings.keys), keys });
	const tokenKeys = new RemoteTokenKeys({ url: settings.keys, logger });
	// Not waited for: an issuer that is slow must not hold up our end.
	const refresh = () => Promise.resolve(void tokenKeys.refresh());
	closer.add(startLoop("token keys", KEY_TIMES.refresh, logger, refresh), (loop) => loop.close());
	telemetry.gauge("audit_token_keys_age_seconds", () => {
		const ageMs = tokenKeys.ageMs();
		return ageMs === undefined ? [] : value(ageMs / 1000);
	});
	return new JwtVerifier({ settings, tokenKeys, keys });
}
