import type { DescEnum } from "@bufbuild/protobuf";
import type { UnitPath } from "../event/event.ts";
import { AggregateField, AggregateFieldSchema } from "../gen/audit/v1/audit_service_pb.ts";
import { ActorTypeSchema, CategorySchema, OutcomeSchema, SeveritySchema } from "../gen/audit/v1/event_pb.ts";

/** What events are counted by. */
export interface CountedField {
	/** Of `audit.events`. An event in which all of them are NULL does not have the field. */
	readonly columns: readonly string[];
	/** Where they come from: whoever may not see that unit may not count by it. The header is the entry's own. */
	readonly unit: UnitPath | "header";
	/** What the column's numbers stand for; zero is no value. */
	readonly names?: DescEnum;
	/** Counted where no fields are asked for. */
	readonly usual?: true;
}

export type FieldNumber = Exclude<(typeof AggregateField)[keyof typeof AggregateField], 0>;

/** Every field there is. A field added to the contract has no entry here and does not compile. */
export const COUNTED_FIELDS: Readonly<Record<FieldNumber, CountedField>> = {
	[AggregateField.ACTION]: { columns: ["action"], unit: "header", usual: true },
	[AggregateField.CATEGORY]: { columns: ["category"], unit: "facts", names: CategorySchema, usual: true },
	[AggregateField.SEVERITY]: { columns: ["severity"], unit: "facts", names: SeveritySchema, usual: true },
	[AggregateField.OUTCOME]: { columns: ["outcome"], unit: "facts", names: OutcomeSchema, usual: true },
	[AggregateField.SOURCE]: { columns: ["source"], unit: "facts", usual: true },
	[AggregateField.ACTOR_ID]: { columns: ["actor_id"], unit: "actor", usual: true },
	[AggregateField.ACTOR_EMAIL]: { columns: ["actor_email"], unit: "actor" },
	[AggregateField.ACTOR_TYPE]: { columns: ["actor_type"], unit: "actor", names: ActorTypeSchema },
	[AggregateField.RESOURCE_TYPE]: { columns: ["resource_type"], unit: "resources", usual: true },
	[AggregateField.RESOURCE_ID]: { columns: ["resource_id"], unit: "resources" },
	[AggregateField.RESOURCE]: { columns: ["resource_type", "resource_id"], unit: "resources" },
};

export const FIELD_NUMBERS = Object.keys(COUNTED_FIELDS).map(Number) as FieldNumber[];

/** As the contract calls it: `AGGREGATE_FIELD_ACTION`. */
export function nameOfField(field: FieldNumber): string {
	return AggregateFieldSchema.value[field]?.name ?? String(field);
}
