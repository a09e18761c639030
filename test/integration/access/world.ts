import { randomBytes, randomUUID } from "node:crypto";
import { formatApiKey, newApiKey, parseApiKey } from "../../../src/auth/api-keys.ts";
import { ROLES, type Role } from "../../../src/auth/principal.ts";
import { createAuditClient, createTenantClient } from "../../../src/client/index.ts";
import { BAD_TOKENS } from "../../support/bad-tokens.ts";
import { type LetterService, startLetterService } from "../../support/letter-service.ts";
import { createKey } from "../../support/rpc-service.ts";
import {
	AUDIENCE,
	ISSUER,
	makeSigningKey,
	type SigningKey,
	signToken,
	startJwksServer,
} from "../../support/token-issuer.ts";
import type { Holdings } from "./probes.ts";

/** Somebody who calls. */
export interface Caller {
	readonly name: string;
	readonly headers: Readonly<Record<string, string>>;
	/** Absent: nobody the service knows. */
	readonly is?: { readonly role: Role; readonly tenant: TenantName };
}

export type TenantName = "acme" | "closing" | "globex";

export interface World {
	readonly service: LetterService;
	readonly holdings: Readonly<Record<TenantName | "nobody", Holdings>>;
	readonly callers: readonly Caller[];
	end(): Promise<void>;
}

const TENANTS: readonly TenantName[] = ["acme", "closing", "globex"];

/** The whole service, three tenants that have something of everything, and everybody who may try to get at it. */
export async function makeWorld(): Promise<World> {
	const signing = makeSigningKey("k1", "RS256");
	const issuer = await startJwksServer(signing);
	const service = await startLetterService({
		AUDIT_JWT_ISSUER: ISSUER,
		AUDIT_JWT_AUDIENCE: AUDIENCE,
		AUDIT_JWT_JWKS_URL: issuer.url,
	});
	await service.makeTenants(...TENANTS);
	const holdings = {} as Record<TenantName | "nobody", Holdings>;
	for (const tenant of TENANTS) holdings[tenant] = await fill(service, tenant);
	holdings.nobody = counterfeit(holdings.acme);
	const callers: Caller[] = [...(await strangers(service)), ...(await forgers(signing))];
	for (const tenant of TENANTS) {
		for (const role of ROLES) {
			const key = await createKey(service.database.url, role, [tenant]);
			callers.push({ name: `${role} of ${tenant}`, headers: bearer(key), is: { role, tenant } });
			const token = await signToken(signing, { roles: [role], tenant_id: tenant });
			callers.push({ name: `${role} of ${tenant} by token`, headers: bearer(token), is: { role, tenant } });
		}
	}
	const end = async () => {
		await service.end();
		await issuer.stop();
	};
	return { service, holdings, callers, end };
}

async function fill(service: LetterService, tenant: TenantName): Promise<Holdings> {
	const canary = `canary-${tenant}-${randomBytes(4).toString("hex")}`;
	const operator = { url: service.httpUrl, key: service.key };
	const client = createAuditClient(operator);
	await createTenantClient(operator).renameTenant({ id: tenant, name: canary });
	const actor = { id: canary, displayName: canary, email: `${canary}@example.com` };
	const { eventId } = await client.writeEvent({ event: { tenantId: tenant, action: "user.login", actor } });
	const bad = {
		subject: `audit.events.${tenant}`,
		data: JSON.stringify({ action: "Not An Action", description: canary }),
	};
	const letters = (await service.publish(bad, bad)).filter(({ tenantId }) => tenantId === tenant);
	const [letterId = "", discardedLetterId = ""] = letters.map(({ id }) => id);
	const keyId = async () =>
		parseApiKey(await createKey(service.database.url, "reader", [tenant], { name: canary }))?.id ?? "";
	return {
		tenantId: tenant,
		eventId,
		letterId,
		discardedLetterId,
		keyId: await keyId(),
		revokedKeyId: await keyId(),
		canary,
	};
}

/** Names of the same shape for things that do not exist. */
function counterfeit({ letterId }: Holdings): Holdings {
	const [stream, , position] = letterId.split("-");
	const letter = (seq: number) => `${stream}-${seq}-${position}`;
	const id = () => randomBytes(6).toString("hex");
	return {
		tenantId: "zzzz",
		eventId: randomUUID(),
		letterId: letter(777_777),
		discardedLetterId: letter(777_778),
		keyId: id(),
		revokedKeyId: id(),
		canary: `canary-nobody-${id()}`,
	};
}

/** Those whom nothing distinguishes: each gets the same answer, whatever is wrong with what it brings. */
async function strangers(service: LetterService): Promise<Caller[]> {
	const { url } = service.database;
	const good = await createKey(url, "operator", "all");
	const key = parseApiKey(good) ?? newApiKey();
	const expired = await createKey(url, "operator", "all");
	const revoked = await createKey(url, "operator", "all");
	const id = (text: string) => parseApiKey(text)?.id;
	await service.admin.query("UPDATE audit.api_keys SET expires_at = now() - interval '1 second' WHERE id = $1", [
		id(expired),
	]);
	await service.admin.query("UPDATE audit.api_keys SET revoked_at = now() WHERE id = $1", [id(revoked)]);
	const bringing: Record<string, Record<string, string>> = {
		nothing: {},
		"an empty key": bearer(""),
		garbage: bearer("garbage"),
		"another scheme": { authorization: `Basic ${Buffer.from(`operator:${good}`).toString("base64")}` },
		"a key that never was": bearer(formatApiKey(newApiKey())),
		"a key's id with another secret": bearer(formatApiKey({ id: key.id, secret: newApiKey().secret })),
		"a secret with another key's id": bearer(formatApiKey({ id: newApiKey().id, secret: key.secret })),
		"a key cut short": bearer(good.slice(0, -1)),
		"a key and more": bearer(`${good}0`),
		"an expired key": bearer(expired),
		"a revoked key": bearer(revoked),
		"two keys that differ": { ...bearer(good), "x-api-key": expired },
		"a key in a cookie": { cookie: `authorization=Bearer ${good}` },
		"the word of a proxy": { "x-forwarded-client-cert": `By=spiffe://a;URI=spiffe://${key.id}` },
		"a key's id alone, as the plain header": { "x-api-key": key.id },
	};
	return Object.entries(bringing).map(([name, headers]) => ({ name, headers }));
}

/** Those with a token of each kind that nobody may believe. */
async function forgers(signing: SigningKey): Promise<Caller[]> {
	const another = await signToken(makeSigningKey("k1", "RS256"), { roles: ["operator"], tenant_id: "*" });
	const forged = BAD_TOKENS.map(async ([, name, tokenOf]) => ({ name, headers: bearer(await tokenOf({ signing })) }));
	return [...(await Promise.all(forged)), { name: "a token signed by another", headers: bearer(another) }];
}

export function bearer(key: string): Record<string, string> {
	return { authorization: `Bearer ${key}` };
}
