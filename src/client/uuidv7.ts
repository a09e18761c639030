/**
 * Makes UUIDv7s (RFC 9562) that sort in the order they were made: within one millisecond the 12 bits after the time
 * count up from a random start (method 1 of section 6.2), the other 62 bits are random.
 */
export function createUuidV7Source(): (millis: number) => string {
	let lastMillis = -1;
	let counter = 0;
	return (millis) => {
		const random = crypto.getRandomValues(new Uint8Array(10));
		if (millis !== lastMillis) {
			// The upper half stays free to count in.
			counter = (((random[0] ?? 0) << 8) | (random[1] ?? 0)) & 0x7ff;
			lastMillis = millis;
		} else {
			// Past the end order is lost, uniqueness is not: 62 random bits remain.
			counter = (counter + 1) & 0xfff;
		}
		const time = millis.toString(16).padStart(12, "0");
		const rest = Array.from(random.subarray(2), (byte) => byte.toString(16).padStart(2, "0")).join("");
		const variant = ((Number.parseInt(rest.slice(0, 1), 16) & 0x3) | 0x8).toString(16);
		const count = counter.toString(16).padStart(3, "0");
		return `${time.slice(0, 8)}-${time.slice(8)}-7${count}-${variant}${rest.slice(1, 4)}-${rest.slice(4)}`;
	};
}
