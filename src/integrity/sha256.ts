import { hash } from "node:crypto";

/** SHA-256, 32 bytes. The one place integrity/ touches the platform: a browser build replaces this file. */
export function sha256(data: Uint8Array): Uint8Array {
	return hash("sha256", data, "buffer");
}
