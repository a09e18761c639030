# REST with curl: a batch of two events, one of them bad, and a search.
# Prints: "written"(.|\n)*"violations"(.|\n)*"invoice.paid"
batch='{ "events": [
  { "tenant_id": "examples", "action": "invoice.paid", "actor": { "id": "user-1" }, "source": "api" },
  { "tenant_id": "examples", "action": "Not An Action" } ] }'
curl -sS "$AUDIT_URL/v1/audit/events:batch" -H "Authorization: Bearer $AUDIT_KEY" -H 'Content-Type: application/json' -d "$batch"
curl -sS "$AUDIT_URL/v1/audit/events?tenant_id=examples&actions=invoice.*&sources=api" -H "Authorization: Bearer $AUDIT_KEY"
