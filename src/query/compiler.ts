import { DummyDriver, Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler } from "kysely";

/** The columns that every search looks at; those of the filters are in their table. */
interface EventsTable {
	tenant_id: string;
	occurred_at: string;
	id: string;
}

/** Kysely as a writer of SQL: the statements run on the connection of the tenant's transaction. */
export const compiler = new Kysely<{ "audit.events": EventsTable }>({
	dialect: {
		createAdapter: () => new PostgresAdapter(),
		createDriver: () => new DummyDriver(),
		createIntrospector: (db) => new PostgresIntrospector(db),
		createQueryCompiler: () => new PostgresQueryCompiler(),
	},
});
