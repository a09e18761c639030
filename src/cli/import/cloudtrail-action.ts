/**
 * The action of a CloudTrail record: `ec2.describe_instances` from `ec2.amazonaws.com` and `DescribeInstances`. The
 * original names stay in the event's metadata, so nothing hangs on this being reversible.
 *
 * @returns undefined if nothing of one of the names is left in the alphabet of actions
 */
export function actionOf(eventSource: string, eventName: string): string | undefined {
	const service = serviceOf(eventSource);
	const name = snakeCase(eventName);
	return service && name ? `${service}.${name}`.slice(0, 127) : undefined;
}

/** The service of an event source: its first label, such as `ec2` or `resource-explorer-2`. */
export function serviceOf(eventSource: string): string {
	const [label = ""] = eventSource.toLowerCase().split(".");
	return label.replace(/[^a-z0-9_-]+/g, "-");
}

/** Acronyms, with a plural s and up to three digits; words, likewise; runs of digits, with an API's `v2`. */
const WORDS = /[A-Z]{2,}s(?![a-z])|[A-Z]+(?![a-z])(?:\d{1,3}(?!\d))?|[A-Z]?[a-z]+(?:\d{1,3}(?!\d))?|\d+(?:v\d+)?/g;

/** `GetMFADevice` → `get_mfa_device`, `GetS3Bucket` → `get_s3_bucket`, `ListWebACLs` → `list_web_acls`. */
export function snakeCase(name: string): string {
	const words = name.replace(/IPv(?=\d)/g, "Ipv").match(WORDS) ?? [];
	return words.join("_").toLowerCase();
}
