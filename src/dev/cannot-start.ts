/** Something about this machine or these settings that a person can mend; the message says how. */
export class CannotStart extends Error {
	/** Tells it from a programmer error: the command line prints the message alone. */
	readonly code = "CANNOT_START";
}
