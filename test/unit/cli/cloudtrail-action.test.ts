import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { actionOf, snakeCase } from "../../../src/cli/import/cloudtrail-action.ts";

describe("the action of a CloudTrail record", () => {
	test.each([
		["ec2.amazonaws.com", "DescribeInstances", "ec2.describe_instances"],
		["iam.amazonaws.com", "GetMFADevice", "iam.get_mfa_device"],
		["iam.amazonaws.com", "ListSSHPublicKeys", "iam.list_ssh_public_keys"],
		["rds.amazonaws.com", "DescribeDBInstances", "rds.describe_db_instances"],
		["wafv2.amazonaws.com", "ListWebACLs", "wafv2.list_web_acls"],
		["sts.amazonaws.com", "AssumeRoleWithSAML", "sts.assume_role_with_saml"],
		["ec2.amazonaws.com", "AllocateIPv6Pool", "ec2.allocate_ipv6_pool"],
		["cloudfront.amazonaws.com", "GetDistribution2012_05_30", "cloudfront.get_distribution_2012_05_30"],
		["lambda.amazonaws.com", "AddPermission20150331v2", "lambda.add_permission_20150331v2"],
		["resource-explorer-2.amazonaws.com", "ListIndexes", "resource-explorer-2.list_indexes"],
		["signin.amazonaws.com", "ConsoleLogin", "signin.console_login"],
	])("%s %s is %s", (eventSource, eventName, action) => {
		expect(actionOf(eventSource, eventName)).toBe(action);
	});

	test("a name without a letter or digit gives none", () => {
		expect(actionOf("ec2.amazonaws.com", "…")).toBeUndefined();
		expect(actionOf(".amazonaws.com", "GetThing")).toBeUndefined();
	});

	test("whatever the names are, an action keeps to its alphabet and length", () => {
		const names = fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.stringMatching(/^[A-Za-z0-9_. -]{0,200}$/));
		fc.assert(
			fc.property(names, names, (eventSource, eventName) => {
				const action = actionOf(eventSource, eventName);
				if (action !== undefined) expect(action).toMatch(/^[a-z0-9._-]{1,127}$/);
			}),
			{ numRuns: 2_000 },
		);
	});

	test("snake case only adds underscores between words and takes capitals away", () => {
		const names = fc.stringMatching(/^[A-Za-z0-9]{1,60}$/);
		fc.assert(
			fc.property(names, (name) => {
				expect(snakeCase(name).replaceAll("_", "")).toBe(name.toLowerCase());
				expect(snakeCase(name)).toMatch(/^[a-z0-9]+(_[a-z0-9]+)*$/);
			}),
			{ numRuns: 2_000 },
		);
	});
});
