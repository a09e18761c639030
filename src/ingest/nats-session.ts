import type { JetStreamClient, Msg, NatsConnection } from "nats";
import type { Logger } from "../logger.ts";
import type { NatsAccess } from "../nats-access.ts";
import { connectNats } from "../nats-connect.ts";
import { Pull, type Room } from "./nats-pull.ts";
import { CONSUMER, EVENT_STREAM, reconcileStreams, type StreamOptions, type Streams } from "./nats-stream.ts";
import { detectSync, type SyncMode } from "./nats-sync.ts";

export interface SessionOptions extends StreamOptions {
	readonly access: NatsAccess;
	/** Where the server's monitoring answers, such as `http://nats:8222`. */
	readonly monitorUrl?: string | undefined;
	readonly room: () => Room;
	readonly onMessage: (message: Msg, session: Session) => void;
	readonly logger: Logger;
}

const CONNECT_TIMEOUT_MS = 5_000;
const PING_INTERVAL_MS = 10_000;
const WATCH_INTERVAL_MS = 10_000;
const CLOSE_DEADLINE_MS = 5_000;
/**
 * Where answers and the messages themselves come to. Not the `_INBOX` that every client has by default: whoever is let listen
 * there, as producers are by a careless configuration, would read what all tenants write.
 */
const INBOX_PREFIX = "_INBOX_auditlog";
const BEHAVIOUR = {
	name: "auditlog",
	inboxPrefix: INBOX_PREFIX,
	// A session that lost its connection is over: the library would reconnect without looking what it came back to.
	reconnect: false,
	timeout: CONNECT_TIMEOUT_MS,
	pingInterval: PING_INTERVAL_MS,
	maxPingOut: 2,
	noAsyncTraces: true,
};
const ACK = new TextEncoder().encode("+ACK");
const NOT_YET = new TextEncoder().encode("+WPI");
const GIVE_BACK = new TextEncoder().encode("-NAK");

/**
 * One connection to NATS, from the moment everything on the server is as it should be.
 *
 * Open (pulling, watching that messages still come) → ended, for good, as soon as anything is not as it was: the
 * connection broke, the pull went silent, stream or consumer is gone or is another one. What comes next is a new
 * session: there is one way back, the same as at the start.
 */
export class Session {
	/** The very stream and consumer: an acknowledgement meant for others of the same name would lose a message. */
	readonly incarnation: string;
	readonly streamCreated: Date;
	readonly jetstream: JetStreamClient;
	readonly sync: SyncMode;
	/** The server's, such as `2.10.27`. */
	readonly serverVersion: string | undefined;
	/** Resolves with the reason when the session is over. */
	readonly ended: Promise<string>;
	/** Messages that are in the stream and not yet stored, when last looked. */
	pending: number;
	/** Those of them that are delivered. */
	ackPending: number;
	readonly #nc: NatsConnection;
	readonly #pull: Pull;
	readonly #watch: NodeJS.Timeout;
	readonly #end: (reason: string) => void;
	/** Streams that are not as they should be, and what NATS does not let us do. */
	readonly #wanting: Set<string>;
	#deliveredAtLastLook: number;

	/** Connects and makes streams and consumer what they should be. */
	static async open(options: SessionOptions): Promise<Session> {
		const nc = await connectNats(options.access, BEHAVIOUR);
		try {
			const streams = await reconcileStreams(nc, options, options.logger);
			return new Session(nc, streams, await detectSync(nc, options.monitorUrl), options);
		} catch (error) {
			await nc.close();
			throw error;
		}
	}

	private constructor(nc: NatsConnection, streams: Streams, sync: SyncMode, options: SessionOptions) {
		const { event, consumer, missing } = streams;
		this.#nc = nc;
		this.jetstream = nc.jetstream();
		this.incarnation = incarnationOf(event.created, consumer.created);
		this.streamCreated = new Date(event.created);
		this.sync = sync;
		this.#wanting = new Set(missing);
		this.serverVersion = nc.info?.version;
		this.pending = consumer.num_pending + consumer.num_ack_pending;
		this.ackPending = consumer.num_ack_pending;
		this.#deliveredAtLastLook = consumer.delivered.consumer_seq;
		const { promise, resolve } = Promise.withResolvers<string>();
		this.ended = promise;
		this.#end = resolve;
		void nc
			.closed()
			.then((error) => resolve(error ? `the connection broke: ${error.message}` : "the connection closed"));
		const onMessage = (message: Msg) => options.onMessage(message, this);
		this.#pull = new Pull({ nc, inboxPrefix: INBOX_PREFIX, room: options.room, onMessage, onEnd: resolve });
		void this.#noteRefusals(options.logger);
		this.#watch = setInterval(() => void this.#look(), WATCH_INTERVAL_MS);
		this.#pull.more();
	}

	/** The door works in spite of these, but says so. */
	get missing(): readonly string[] {
		return [...this.#wanting];
	}

	/** Pulls if there is room. */
	more(): void {
		this.#pull.more();
	}

	/** Tells the server that a message is done with. It does not answer: a lost ack is a redelivery. */
	ack(reply: string): boolean {
		return this.#say(reply, ACK);
	}

	/** Asks the server for more time with a message. */
	working(reply: string): boolean {
		return this.#say(reply, NOT_YET);
	}

	/** Gives a message back, to be delivered again at once. */
	giveBack(reply: string): boolean {
		return this.#say(reply, GIVE_BACK);
	}

	/** Takes in no more messages; acknowledgements still go through. */
	stopPulling(): void {
		this.#pull.close();
	}

	/** Sends what is to be sent, and closes the connection. */
	async close(): Promise<void> {
		clearInterval(this.#watch);
		this.#pull.close();
		if (this.#nc.isClosed()) return;
		// A server that does not answer must not hold up the shutdown.
		const deadline = AbortSignal.timeout(CLOSE_DEADLINE_MS);
		const given = new Promise<void>((resolve) => deadline.addEventListener("abort", () => resolve(), { once: true }));
		await Promise.race([this.#nc.flush().catch(() => {}), given]);
		await this.#nc.close();
	}

	#say(reply: string, word: Uint8Array): boolean {
		if (this.#nc.isClosed()) return false;
		this.#nc.publish(reply, word);
		return true;
	}

	/** An acknowledgement is never answered: that it may not be sent at all is said here and nowhere else. */
	async #noteRefusals(logger: Logger): Promise<void> {
		for await (const { permissionContext } of this.#nc.status()) {
			const { operation, subject = "" } = permissionContext ?? {};
			// Whether the server syncs is asked of anyone who may know.
			if (operation !== "publish" || subject.startsWith("$SYS.")) continue;
			const words = `its user may not publish to ${subject.replace(/^(\$JS\.ACK\.[^.]+\.[^.]+)\..*/, "$1.>")}`;
			if (!this.#wanting.has(words)) logger.error({ reason: words }, "NATS does not let the service do its work");
			this.#wanting.add(words);
		}
	}

	/** JetStream is not believed blindly: checks that all is still the same, and that messages do come. */
	async #look(): Promise<void> {
		try {
			const jsm = await this.#nc.jetstreamManager({ checkAPI: false, timeout: CONNECT_TIMEOUT_MS });
			const stream = await jsm.streams.info(EVENT_STREAM);
			const consumer = await jsm.consumers.info(EVENT_STREAM, CONSUMER);
			if (incarnationOf(stream.created, consumer.created) !== this.incarnation) {
				return this.#end("stream or consumer was replaced by another of the same name");
			}
			this.pending = consumer.num_pending + consumer.num_ack_pending;
			this.ackPending = consumer.num_ack_pending;
			const delivered = consumer.delivered.consumer_seq;
			const full = consumer.num_ack_pending >= (consumer.config.max_ack_pending ?? 0);
			const owed = consumer.num_pending > 0 && this.#pull.pulling && !full && consumer.paused !== true;
			if (owed && delivered === this.#deliveredAtLastLook) return this.#end("messages are waiting and none comes");
			this.#deliveredAtLastLook = delivered;
		} catch (error) {
			this.#end(`JetStream did not answer: ${(error as Error).message}`);
		}
	}
}

function incarnationOf(streamCreated: string, consumerCreated: string): string {
	return `${streamCreated}/${consumerCreated}`;
}
