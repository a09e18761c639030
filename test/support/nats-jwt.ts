import { randomUUID } from "node:crypto";
import { nkeys } from "nats";

/** An operator, an account with JetStream and users of it, as `nsc` makes them: what a `.creds` file is good for. */
export interface NatsOperator {
	/** Lines for the server's configuration. */
	readonly config: string;
	/** The text of a user's `.creds` file. @param expiresAt after which the server throws the user out */
	credsOf(name: string, permissions: NatsUserPermissions, expiresAt?: Date): string;
}

export interface NatsUserPermissions {
	readonly publish: readonly string[];
	readonly subscribe: readonly string[];
}

const NO_LIMITS = { subs: -1, data: -1, payload: -1 };

export function makeNatsOperator(): NatsOperator {
	const [operator, account, system] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createAccount()];
	const accountJwt = (name: string, key: KeyPair, streams: number) =>
		signed(operator, key.getPublicKey(), name, {
			type: "account",
			limits: {
				...NO_LIMITS,
				imports: -1,
				exports: -1,
				wildcards: true,
				conn: -1,
				leaf: -1,
				mem_storage: streams,
				disk_storage: streams,
				streams,
				consumer: streams,
			},
			default_permissions: { pub: {}, sub: {} },
		});
	const operatorClaims = { type: "operator", system_account: system.getPublicKey() };
	return {
		config: `operator: ${signed(operator, operator.getPublicKey(), "operator", operatorClaims)}
system_account: ${system.getPublicKey()}
resolver: MEMORY
resolver_preload: {
  ${account.getPublicKey()}: ${accountJwt("AUDIT", account, -1)}
  ${system.getPublicKey()}: ${accountJwt("SYS", system, 0)}
}`,
		credsOf(name, { publish, subscribe }, expiresAt) {
			const user = nkeys.createUser();
			const claims = { type: "user", ...NO_LIMITS, pub: { allow: publish }, sub: { allow: subscribe } };
			const jwt = signed(account, user.getPublicKey(), name, claims, expiresAt);
			const seed = new TextDecoder().decode(user.getSeed());
			return `-----BEGIN NATS USER JWT-----
${jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
${seed}
------END USER NKEY SEED------
`;
		},
	};
}

type KeyPair = ReturnType<typeof nkeys.createUser>;

/** A JWT as NATS has it: signed by an NKey. */
function signed(issuer: KeyPair, subject: string, name: string, nats: object, expiresAt?: Date): string {
	const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url");
	const claims = {
		jti: randomUUID(),
		iat: Math.floor(Date.now() / 1000),
		iss: issuer.getPublicKey(),
		sub: subject,
		name,
		...(expiresAt && { exp: Math.floor(expiresAt.getTime() / 1000) }),
		nats: { ...nats, version: 2 },
	};
	const text = `${encode({ typ: "JWT", alg: "ed25519-nkey" })}.${encode(claims)}`;
	return `${text}.${Buffer.from(issuer.sign(Buffer.from(text))).toString("base64url")}`;
}
