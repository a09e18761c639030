import { create, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { LIMITS } from "../../event/limits.ts";
import { type ResourceRef, ResourceRefSchema } from "../../gen/audit/v1/event_pb.ts";
import { isId, isObject, type Remainder } from "./cloudtrail-remainder.ts";

/** The things a record concerns: the first is the primary resource. */
export function resourcesOf(record: Remainder, service: string, eventName: string): ResourceRef[] {
	const stated = takeStated(record);
	const resources = stated.length > 0 ? stated : findNamed(record, service, eventName);
	return resources.slice(0, 1 + LIMITS.relatedResources);
}

/** Takes what `resources` lists. Entries that name no ARN an event can hold, and those beyond the limit, stay. */
function takeStated(record: Remainder): ResourceRef[] {
	const entries = record.value("resources");
	if (!Array.isArray(entries)) return [];
	const taken: ResourceRef[] = [];
	const left: JsonValue[] = [];
	for (const entry of entries) {
		const arn = isObject(entry) ? entry.ARN : undefined;
		if (!isObject(entry) || typeof arn !== "string" || !isId(arn) || taken.length > LIMITS.relatedResources) {
			left.push(entry);
			continue;
		}
		const { ARN: _taken, type, accountId, ...rest } = entry;
		const typed = typeof type === "string" && isId(type);
		taken.push(create(ResourceRefSchema, { type: typed ? type : typeOfArn(arn), id: arn }));
		if (!typed && type !== undefined) rest.type = type;
		// Dropped (see DROPPED): metadata.recipientAccountId says it.
		if (accountId !== undefined && accountId !== record.value("recipientAccountId")) rest.accountId = accountId;
		if (Object.keys(rest).length > 0) left.push(rest);
	}
	if (left.length > 0) record.replace(left, "resources");
	else if (taken.length > 0) record.drop("resources");
	return taken;
}

/** The type of an ARN whose entry has none, as AWS Resource Explorer writes it: `ssm:parameter`. */
function typeOfArn(arn: string): string {
	const [, , service = "", , , resource = ""] = arn.split(":");
	const type = /^[a-z-]+(?=\/)/.exec(resource)?.[0];
	const name = type ? `${service}:${type}` : service;
	return isId(name) ? name : "";
}

/**
 * Parameters that name the thing a call is about, by service; the most specific first, because the first one found is
 * the primary resource. Types are CloudFormation's, as CloudTrail itself uses them in `resources`.
 */
const NAMES: Record<string, Record<string, string>> = {
	cloudtrail: { name: "AWS::CloudTrail::Trail", trailName: "AWS::CloudTrail::Trail" },
	dynamodb: { tableName: "AWS::DynamoDB::Table" },
	ec2: {
		instanceId: "AWS::EC2::Instance",
		snapshotId: "AWS::EC2::Snapshot",
		volumeId: "AWS::EC2::Volume",
		networkInterfaceId: "AWS::EC2::NetworkInterface",
		natGatewayId: "AWS::EC2::NatGateway",
		internetGatewayId: "AWS::EC2::InternetGateway",
		routeTableId: "AWS::EC2::RouteTable",
		groupId: "AWS::EC2::SecurityGroup",
		allocationId: "AWS::EC2::EIP",
		imageId: "AWS::EC2::Image",
		subnetId: "AWS::EC2::Subnet",
		vpcId: "AWS::EC2::VPC",
	},
	guardduty: { detectorId: "AWS::GuardDuty::Detector" },
	iam: {
		accessKeyId: "AWS::IAM::AccessKey",
		userName: "AWS::IAM::User",
		groupName: "AWS::IAM::Group",
		instanceProfileName: "AWS::IAM::InstanceProfile",
		roleName: "AWS::IAM::Role",
		policyArn: "AWS::IAM::ManagedPolicy",
		policyName: "AWS::IAM::Policy",
	},
	kms: { keyId: "AWS::KMS::Key" },
	lambda: { functionName: "AWS::Lambda::Function" },
	logs: { logGroupName: "AWS::Logs::LogGroup" },
	rds: {
		dBSnapshotIdentifier: "AWS::RDS::DBSnapshot",
		dBInstanceIdentifier: "AWS::RDS::DBInstance",
		dBClusterIdentifier: "AWS::RDS::DBCluster",
		dBSubnetGroupName: "AWS::RDS::DBSubnetGroup",
	},
	s3: { bucketName: "AWS::S3::Bucket" },
	secretsmanager: {
		ARN: "AWS::SecretsManager::Secret",
		secretId: "AWS::SecretsManager::Secret",
		name: "AWS::SecretsManager::Secret",
	},
	sns: { topicArn: "AWS::SNS::Topic" },
	sqs: { queueUrl: "AWS::SQS::Queue", queueName: "AWS::SQS::Queue" },
	ssm: {
		commandId: "AWS::SSM::Command",
		instanceId: "AWS::EC2::Instance",
		documentName: "AWS::SSM::Document",
		name: "AWS::SSM::Parameter",
	},
	sts: { roleArn: "AWS::IAM::Role" },
};

/** Calls whose answer, not whose request, names what they are about. */
const MAKES = /^(Create|Run|Allocate|Register|Copy|Import|Restore|Request)/;

/** Copies (does not take) the things named by well-known parameters: the request must stay as it was sent. */
function findNamed(record: Remainder, service: string, eventName: string): ResourceRef[] {
	const names = NAMES[service];
	if (!names) return [];
	const found = new Map<string, ResourceRef>();
	const parts = ["requestParameters", "additionalEventData", "serviceEventDetails"];
	if (MAKES.test(eventName)) parts.unshift("responseElements");
	for (const part of parts) {
		const values = record.value(part);
		if (!isObject(values)) continue;
		for (const [name, type] of Object.entries(names)) {
			for (const id of valuesOf(values, name, 3)) {
				if (isId(id)) found.set(`${type} ${id}`, create(ResourceRefSchema, { type, id }));
			}
		}
	}
	return [...found.values()];
}

/** Texts under a name, down to `subnetSet.items[].subnetId` and no deeper: below that, things are only mentioned. */
function valuesOf(object: JsonObject, name: string, depth: number): string[] {
	const own = Object.hasOwn(object, name) ? object[name] : undefined;
	const values = typeof own === "string" ? [own] : [];
	if (depth === 1) return values;
	for (const value of Object.values(object)) {
		for (const item of Array.isArray(value) ? value : [value]) {
			if (isObject(item)) values.push(...valuesOf(item, name, depth - 1));
		}
	}
	return values;
}
