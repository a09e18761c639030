# The Connect protocol is JSON over POST: an RPC needs nothing but curl.
# Prints: "eventId"
curl -sS "$AUDIT_URL/audit.v1.AuditService/WriteEvent" -H "Authorization: Bearer $AUDIT_KEY" -H 'Content-Type: application/json' \
  -d '{ "event": { "tenantId": "examples", "action": "door.opened", "actor": { "id": "badge-9" } } }'
