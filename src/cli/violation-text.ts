import type { Violation } from "../errors.ts";
import { printable } from "./output/printable.ts";

/** Everything wrong with an event, as text: `actor.id: is required`. Paths hold names that callers chose. */
export function violationText(violations: readonly Violation[], separator = "\n"): string {
	return violations.map(({ field, message }) => printable(`${field || "event"}: ${message}`)).join(separator);
}
