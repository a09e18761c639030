import { readFileSync } from "node:fs";
import { connect, type NatsConnection, type NatsError } from "nats";
import { expect } from "vitest";

/** A configuration that the documentation gives to be used as it stands. */
export function natsExample(name: "users" | "accounts" | "tls"): string {
	return readFileSync(new URL(`../../docs/examples/nats/${name}.conf`, import.meta.url), "utf8");
}

/** The permissions of a user in docs/examples/nats/users.conf. */
export function permissionsOf(user: string): { publish: string[]; subscribe: string[] } {
	const [, publish = "", subscribe = ""] =
		new RegExp(`user: ${user},.*?publish: \\[(.*?)\\]\\s*,?\\s*subscribe: \\[(.*?)\\]`, "s").exec(
			natsExample("users"),
		) ?? [];
	const subjects = (list: string) => [...list.matchAll(/"([^"]+)"/g)].map(([, subject = ""]) => subject);
	return { publish: subjects(publish), subscribe: subjects(subscribe) };
}

/** The password of every user in the examples. */
const PASSWORD = "change-me";

/** A NATS URL with a user of the examples in it. */
export function urlOf(user: string, server: { readonly url: string }): string {
	return server.url.replace("//", `//${user}:${PASSWORD}@`);
}

/** Somebody of the examples. Who has an inbox prefix has the one the documentation says. */
export async function connectAs(user: string, server: { readonly url: string }): Promise<NatsConnection> {
	return await connect({ servers: server.url, user, pass: PASSWORD, inboxPrefix: `_INBOX_${user}` });
}

/** The server says no to a publish, and the client hears it: no time is waited for. */
export async function expectMayNotPublish(who: NatsConnection, subject: string, body = ""): Promise<void> {
	const error = await who.request(subject, body, { timeout: 20_000 }).then(
		(reply) => ({ code: "ANSWERED", message: reply.string() }),
		(thrown: NatsError) => thrown,
	);
	expect(error, subject).toMatchObject({
		code: "PERMISSIONS_VIOLATION",
		message: expect.stringContaining(`Publish to "${subject}"`),
	});
}

export async function expectMayNotSubscribe(who: NatsConnection, subject: string, queue?: string): Promise<void> {
	const heard = Promise.withResolvers<Error | null>();
	who.subscribe(subject, { ...(queue !== undefined && { queue }), callback: (error) => heard.resolve(error) });
	// What is not refused has been taken by then.
	void who.flush().then(() => heard.resolve(null));
	expect((await heard.promise)?.message, subject).toMatch(/Permissions Violation for Subscription/);
}
