import { Category, Outcome, Severity } from "../../gen/audit/v1/event_pb.ts";
import type { Remainder } from "./cloudtrail-remainder.ts";

/** What kind of event a record is, how it ended and how much attention it deserves (docs/import-cloudtrail.md). */
export interface Kind {
	category: Category;
	outcome: Outcome;
	severity: Severity;
	/** The channel it came through. */
	source: string;
}

export function kindOf(record: Remainder, service: string, eventName: string): Kind {
	const writes = record.value("readOnly") === false;
	const category = categoryOf(record, service, eventName, writes);
	const outcome = outcomeOf(record, eventName);
	return { category, outcome, severity: severityOf(record, category, outcome, writes), source: sourceOf(record) };
}

/** The services whose every call is of one kind. */
const CATEGORIES = new Map<string, Category>([
	...each(Category.AUTH, "signin", "sts", "sso", "sso-oauth", "cognito-idp", "cognito-identity", "rolesanywhere"),
	...each(Category.BILLING, "aws-portal", "billing", "budgets", "ce", "cur", "invoicing", "payments", "savingsplans"),
	...each(Category.SECURITY, "access-analyzer", "acm-pca", "cloudtrail", "config", "detective", "guardduty"),
	...each(Category.SECURITY, "inspector2", "kms", "macie2", "network-firewall", "securityhub", "shield", "wafv2"),
	...each(Category.ADMIN, "account", "controltower", "iam", "identitystore", "organizations", "ram", "sso-directory"),
]);

/** Names of calls that let somebody in or keep somebody out, in any service. */
const PERMISSIONS =
	/Policy|Policies|Permission|Acl|ACL|Grant|PublicAccess|UserToGroup|UserFromGroup|RoleToInstance|RoleFromInstance|SecurityGroup(In|E)gress|(Snapshot|Image)Attribute/;

function categoryOf(record: Remainder, service: string, eventName: string, writes: boolean): Category {
	const known = CATEGORIES.get(service);
	const isAdmin = known === Category.ADMIN;
	if (known !== undefined && !isAdmin) return known;
	if (isAdmin && CREDENTIALS.test(eventName)) return Category.AUTH;
	if (writes && PERMISSIONS.test(eventName)) return Category.ACCESS;
	if (isAdmin) return Category.ADMIN;
	if (record.look("eventType") === "AwsServiceEvent") return Category.SYSTEM;
	return writes && !STORES.has(service) ? Category.CONFIG : Category.DATA;
}

/** Names of calls of IAM that concern passwords, keys and second factors. */
const CREDENTIALS =
	/AccessKey|LoginProfile|Password|MFADevice|SSHPublicKey|ServiceSpecificCredential|SigningCertificate/;

/** The services whose writes are writes of data; those of others change settings. */
const STORES = new Set(["dynamodb", "elasticache", "glacier", "rds", "rds-data", "redshift", "s3", "secretsmanager"]);

/** A failed sign-in has no error code: its answer says `{"ConsoleLogin": "Failure"}`. */
function outcomeOf(record: Remainder, eventName: string): Outcome {
	const errorCode = record.look("errorCode");
	if (/AccessDenied|Unauthorized/.test(errorCode)) return Outcome.DENIED;
	const failed = errorCode !== "" || record.look("errorMessage") !== "";
	return failed || record.look("responseElements", eventName) === "Failure" ? Outcome.FAILURE : Outcome.SUCCESS;
}

function severityOf(record: Remainder, category: Category, outcome: Outcome, writes: boolean): Severity {
	const succeeded = outcome === Outcome.SUCCESS;
	const isSignIn = record.look("eventType") === "AwsConsoleSignIn";
	const byService = record.look("userIdentity", "invokedBy") !== "";
	if (record.look("userIdentity", "type") === "Root" && !byService) return Severity.SECURITY;
	if (category === Category.AUTH && !succeeded) return Severity.SECURITY;
	if (writes && !isSignIn && GUARDED.has(category)) return Severity.SECURITY;
	if (outcome === Outcome.DENIED) return Severity.WARNING;
	return writes || !succeeded ? Severity.NOTICE : Severity.INFO;
}

/** Whoever changes something here changes who can do what, or who would notice. */
const GUARDED = new Set<Category>([Category.ACCESS, Category.AUTH, Category.SECURITY]);

function sourceOf(record: Remainder): string {
	const eventType = record.look("eventType");
	if (eventType.startsWith("AwsConsole") || record.look("sessionCredentialFromConsole") === "true")
		return "aws.console";
	const isService = eventType === "AwsServiceEvent" || record.look("userIdentity", "type") === "AWSService";
	if (isService || record.look("userIdentity", "invokedBy") !== "") return "aws.service";
	return record.look("userAgent").replace(/^\[/, "").startsWith("aws-cli/") ? "aws.cli" : "aws.api";
}

function each(category: Category, ...services: string[]): [string, Category][] {
	return services.map((service) => [service, category]);
}
