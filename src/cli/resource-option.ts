import { UsageError } from "./command-line.ts";

/**
 * `invoice:4711` → type `invoice`, id `4711`. The first single colon divides them, so types such as `AWS::S3::Bucket`
 * and ids with colons of their own work.
 */
export function parseResource(option: string, text: string): { type: string; id: string } {
	const [, type, id] = /^(.*?[^:]):(?!:)(.+)$/s.exec(text) ?? [];
	if (type === undefined || id === undefined) throw new UsageError(`${option} must be type:id, such as invoice:4711`);
	return { type, id };
}
