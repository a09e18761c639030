/** Rows of the catalogue that another test has, by its file and a part of its name. */
export const ELSEWHERE: Readonly<Record<number, readonly [file: string, test: string]>> = {
	1: ["rpc-transport.test.ts", "Host: %j over HTTP/1.1"],
	2: ["rpc-transport.test.ts", "HTTP/1.0 without Host"],
	3: ["rpc-transport.test.ts", ":authority %j over HTTP/2, on both ports"],
	4: ["rpc-transport.test.ts", '["POST", "//", 404]'],
	5: ["rpc-transport.test.ts", '["PUT", RPC, 405]'],
	22: ["rpc-transport.test.ts", "a caller that leaves in the middle of its body"],
	23: ["rpc-transport.test.ts", "headers beyond the limit"],
	24: ["rpc-connections.test.ts", "loses the connection, and nobody else notices"],
	25: ["rpc-connections.test.ts", "that go on for ever end their connection alone"],
	26: ["rpc-connections.test.ts", "one that says a byte now and then"],
	33: ["rpc-transport.test.ts", "an RPC that only reads is no GET"],
	45: ["credentials.test.ts", "%s loses the connection on both ports"],
	98: ["query-search.test.ts", "that PostgreSQL ends for taking too long says what to change"],
};

/** Rows about what does not exist, and why. */
export const NOT_YET: Readonly<Record<number, string>> = {
	79: "events have no tags",
	...rows([100, 101, 102, 103], "Tail: enters with it"),
	...rows([104, 105], "Export: enters with it"),
	...rows([106, 107, 108, 109, 110, 111, 112], "webhooks: enter with delivery"),
	114: "the admin UI: enters with it",
	118: "writes go straight to PostgreSQL: there is no envelope between the doors and the store",
};

/** Rows whose expectation is another here, because the contract says so. */
export const ADAPTED: Readonly<Record<number, string>> = {
	14: "Connect and gRPC say UNIMPLEMENTED, as their protocols ask; REST, which has no such code, INVALID_ARGUMENT",
	15: "the length an envelope claims is refused as too large, before a byte is reserved for it",
	20: "a deadline beyond the service's own is shortened to it, not refused (decision 10)",
	28: "binary headers are read by nobody, so nobody finds them malformed",
	32: "unknown enum numbers are kept; unknown names are refused with the allowed ones",
	40: "an unknown kid has the keys fetched every 30 seconds at most, not every 5 minutes: rotation is to be seen",
	43: "two credentials are UNAUTHENTICATED like any other bad one: there is one text for all",
	46: "keys have roles instead of scopes; the message names the role",
	47: "a tenant of others is NOT_FOUND for writes too: what a key may not see does not exist for it",
	48: "the word is TENANT_DISABLED; operators read on",
	49: "`occurred_at` is optional, but where a retry could not be recognised without it",
	50: "there is one reason, INVALID_EVENT; the violations say which rule, and of which field",
	51: "in fields a lone surrogate makes the JSON malformed, in metadata the event invalid",
	54: "actions are 1 to 127 of `a-z 0-9 . _ -`, without the colon; `audit.` is the service's own",
	55: "identifiers have 256 bytes, not 1,024",
	57: "single texts are bounded (4 KiB); there is no text index that could overflow",
	62: "from 10 years back to 24 hours ahead",
	63: "any UUID may be an id; one that is no UUIDv7 needs its `occurred_at`",
	64: "as 62: an id's own time is `occurred_at`",
	65: "recognised for ever, not for some days",
	68: "depth 33 in JSON is malformed, in protobuf invalid; beyond protobuf's own 48 it is malformed there too",
	70: "keys may be empty; how many there are is bounded by the 2,000 values",
	73: "protobuf-es reads a value without a kind as null, and so it is stored: it says nothing else",
	75: "integers beyond ±(2^53-1) are refused at every door; what is lost could never be told",
	77: "the last one wins, as protobuf says of maps; only JSON's duplicates are ambiguous",
	78: "a zone (`%eth0`) and a mapped IPv4 are addresses like others, and stored as sent",
	80: "an unspecified outcome is SUCCESS, an unspecified severity INFO",
	81: "at NATS the word is EMPTY_BATCH: the message is refused as a whole",
	82: "at NATS the word is BATCH_TOO_LARGE; its messages end at 1 MiB before any batch has 4",
	85: "the second is a duplicate with the first's receipt, not an error",
	89: "0 is 50, and more than 1,000 is 1,000",
	91: "tokens are bound to the tenant, not to the caller's key",
	93: "tokens live 30 days, and one that is older is like any other that is not good",
	94: "a range may be as long as it likes: a search ends with its page, or its time",
	95: "lists have 100 items at most; there is no language of filters",
	97: "there is one field for the order, and no field masks",
	99: "a tenant that nobody has is not told from one without the event",
	115: "the words are UNDECODABLE_PROTOBUF, UNDECODABLE_JSON, TENANT_MISMATCH, UNKNOWN_SUBJECT",
	116: "the server refuses what the stream's configuration forbids",
};

function rows(numbers: readonly number[], reason: string): Record<number, string> {
	return Object.fromEntries(numbers.map((number) => [number, reason]));
}
